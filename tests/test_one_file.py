"""One new file, and no other touched: each kind of thing that can be added is added to a copy of the package, in one
file (or one folder) found by its place, and used from the command line there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
Tierwise = Callable[..., str]


def example(page: str, language: str, word: str) -> str:
    """The first block of a page in docs that holds a word."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", (DOCS / page).read_text("utf-8"), re.S | re.M)
    return next(b for b in blocks if word in b)


def engine_files(name: str) -> dict[str, str]:
    """A new engine that starts like vLLM but is another by name, version and command."""
    folder = ROOT / "src" / "tierwise" / "engines" / "vllm"
    texts = {p.name: p.read_text("utf-8") for p in folder.iterdir() if p.is_file()}
    texts["launch.py"] = re.sub(r'"vllm", "(serve|bench)"', rf'"{name}", "\1"', texts["launch.py"])
    flags = texts["flags.yaml"].replace("engine: vLLM", "engine: Newcomer").replace("[vllm, serve]", f"[{name}, serve]")
    texts["flags.yaml"] = flags.replace("[vllm, bench, serve]", f"[{name}, bench, serve]")
    return {f"engines/{name}/{file}": text for file, text in texts.items()}


SCHEDULER = '''"""Whoever has the fewest tokens left."""


def tokens(engine, request, tenant):
    """As many as the budget still holds."""
    return min(request.left, engine.left)


def order(engine, request, tenant):
    """Smaller goes first."""
    return float(request.left)
'''

ROUTER = '''"""The last engine that may take it."""


def route(cluster, request, engines, among):
    """The last of those there are."""
    return among[len(among) - 1]
'''

TECHNIQUE = '''"""Half of the layers, taken from the end."""

from __future__ import annotations

from dataclasses import replace

from tierwise.models.types import Model
from tierwise.techniques._make import Technique, on_model


def keep_every(nth: int) -> Technique:
    """Keep every ``nth`` layer of every stack (a test)."""

    def change(m: Model) -> Model:
        return replace(m, stacks=tuple(replace(s, pattern=s.pattern[:: int(nth)]) for s in m.stacks))

    return on_model(f"every {nth}th layer", change)
'''

ADDED: dict[str, str] = {
    "models/families/zigzag.py": example("adding-a-model.md", "python", "zigzag"),
    "machines/catalog/newcomer-board.yaml": example("adding-a-machine.md", "yaml", "tiers:"),
    "techniques/newcomer.py": TECHNIQUE,
    "serving/policies/schedulers/newcomer.py": SCHEDULER,
    "serving/policies/routers/newcomer.py": ROUTER,
    "papers/catalog/newcomer.py": example("adding-a-paper.md", "python", "PAPER =").replace(
        'slug="smoothquant"', 'slug="newcomer"'
    ),
    **engine_files("newcomer"),
}


@pytest.fixture(scope="module")
def tierwise(tmp_path_factory: pytest.TempPathFactory) -> Tierwise:
    """The command line of a copy of the package with every addition in it."""
    home = tmp_path_factory.mktemp("house")
    shutil.copytree(ROOT / "src" / "tierwise", home / "tierwise")
    for path, text in ADDED.items():
        target = home / "tierwise" / path
        assert not target.exists(), f"{path}: is there already, so it would be changed and not added"
        target.parent.mkdir(exist_ok=True)
        target.write_text(text, encoding="utf-8")

    def run(*args: str) -> str:
        code = "from tierwise.cli import main; main()"
        env = {**os.environ, "PYTHONPATH": str(home), "COLUMNS": "120", "NO_COLOR": "1"}
        done = subprocess.run(
            [sys.executable, "-c", code, *args], env=env, cwd=home, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    return run


def number(found: object, *path: str) -> float:
    for part in path:
        found = found[part]  # type: ignore[index]
    return float(found)  # type: ignore[arg-type]


def test_a_model_family(tierwise: Tierwise, tmp_path: Path) -> None:
    config = {"model_type": "zigzag", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 12,
              "num_attention_heads": 16, "num_key_value_heads": 4, "sliding_window": 512, "vocab_size": 32000,
              "max_position_embeddings": 8192, "torch_dtype": "bfloat16"}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    said = json.loads(tierwise("explain", str(tmp_path), "--on", "h100-sxm", "--json", "-"))
    # Embedding and head, then per layer four projections, two matrices, two norms; one more norm at the end.
    layer = 2 * 1024 * 1024 + 2 * 1024 * 256 + 2 * 1024 * 4096 + 2 * 1024
    assert number(said, "model", "parameters") == 2 * 32000 * 1024 + 12 * layer + 1024


def test_a_device(tierwise: Tierwise) -> None:
    assert "My NPU board" in tierwise("machines", "newcomer-board")
    assert "newcomer-board" in tierwise("machines")
    said = json.loads(tierwise("explain", "smollm2-135m", "--on", "2xnewcomer-board", "--json", "-"))
    assert said["machine"]["count"] == 2


def test_a_technique(tierwise: Tierwise) -> None:
    assert "keep_every" in tierwise("techniques")
    plain, half = (
        json.loads(tierwise("explain", "llama-2-7b", "--on", "h100-sxm", "--json", "-", *more))
        for more in ((), ("--technique", "keep_every:nth=2"))
    )
    ends = 2 * 32000 * 4096 + 4096  # embedding, head and the last norm stay
    whole = number(plain, "model", "parameters")
    assert number(half, "model", "parameters") == (whole - ends) / 2 + ends


def test_a_scheduler_and_a_router(tierwise: Tierwise, tmp_path: Path) -> None:
    pytest.importorskip("numba")
    base = ("simulate", "llama-2-7b", "--on", "2xa100-80gb", "--replicas", "2", "--tp", "1", "--rate", "4/s",
            "--prompt", "200", "--output", "20", "--requests", "40", "--json", "-")  # fmt: skip
    said = json.loads(tierwise(*base, "--scheduler", "newcomer", "--router", "newcomer"))
    assert "newcomer" in json.dumps(said)


def test_an_engine_that_launch_files_are_written_for(tierwise: Tierwise, tmp_path: Path) -> None:
    pytest.importorskip("numba")
    assert "newcomer" in tierwise("simulate", "llama-2-7b", "--on", "a100-80gb", "--rate", "1/s", "--prompt", "200",
                                  "--output", "20", "--requests", "20", "--engine", "newcomer", "--json", "-")  # fmt: skip
    out = tmp_path / "deploy"
    tierwise("plan", "serve", "llama-3.1-8b", "--on", "h100-sxm", "--prompt", "1000", "--output", "200", "--ttft", "1s",
             "--tpot", "50ms", "--engine", "newcomer", "--no-confirm", "--out", str(out))  # fmt: skip
    scripts = list((out / "newcomer").glob("serve-*.sh"))
    assert scripts and "newcomer serve" in scripts[0].read_text()


def test_a_paper(tierwise: Tierwise) -> None:
    assert "memory of weights" in tierwise("papers", "run", "newcomer")


def test_readme_and_catalog_tests_do_not_count_what_there_is(tierwise: Tierwise) -> None:
    """What lists the catalogs is allowed to have grown: the README's numbers of them need no edit."""
    from tests.test_readme import refresh

    for path in refresh.FILES:
        for command, shown in refresh.commands(path.read_text("utf-8")):
            name, _, arguments = command.partition(" ")
            if refresh.is_list(command) and arguments.split(" | ", maxsplit=1)[0] in ("models", "machines"):
                printed = tierwise(arguments.split(" | ", maxsplit=1)[0])
                last = printed.strip().splitlines()[-1]
                assert name == "tierwise" and refresh.differences(command, shown, last) == []
