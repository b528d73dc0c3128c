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

from tests.test_readme import refresh

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

SCHEDULE = '''"""One op after the other."""

from tierwise.program.program import Program
from tierwise.schedule import in_order
from tierwise.schedule.types import Order


def order(program: Program) -> Order:
    """As the program has them."""
    return in_order.order(program)
'''

WORKLOAD = '''"""Prompts are read and scored; nothing is generated."""

from tierwise.core.num import Num
from tierwise.models.types import Model
from tierwise.scenario.types import Resolved
from tierwise.workloads import generate
from tierwise.workloads._passes import Pass


def runs(model: Model) -> bool:
    """Only when asked for."""
    return False


def passes(r: Resolved, batch: Num) -> list[Pass]:
    """Those of generating, as far as the first token."""
    return [p for p in generate.passes(r, batch) if p.name != "decode"]


def final_length(r: Resolved) -> Num:
    """That of the prompt."""
    return r.traffic.prompt
'''

ADDED: dict[str, str] = {
    "models/families/zigzag.py": example("adding-a-model.md", "python", "zigzag"),
    "machines/catalog/newcomer-board.yaml": example("adding-a-machine.md", "yaml", "tiers:"),
    "techniques/newcomer.py": TECHNIQUE,
    "schedule/newcomer.py": SCHEDULE,
    "workloads/newcomer.py": WORKLOAD,
    "serving/policies/schedulers/newcomer.py": SCHEDULER,
    "serving/policies/routers/newcomer.py": ROUTER,
    "papers/catalog/newcomer.py": example("adding-a-paper.md", "python", "PAPER =").replace(
        'slug="smoothquant"', 'slug="newcomer"'
    ),
    **engine_files("newcomer"),
}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of the package that has every addition in it."""
    home = tmp_path_factory.mktemp("house")
    shutil.copytree(ROOT / "src" / "tierwise", home / "tierwise")
    for path, text in ADDED.items():
        target = home / "tierwise" / path
        assert not target.exists(), f"{path}: is there already, so it would be changed and not added"
        target.parent.mkdir(exist_ok=True)
        target.write_text(text, encoding="utf-8")
    return home


@pytest.fixture
def tierwise(house: Path) -> Tierwise:
    """Its command line; what it prints."""

    def run(*args: str) -> str:
        code = "from tierwise.cli import main; main()"
        env = {**os.environ, **at(house), "COLUMNS": "120", "NO_COLOR": "1"}
        done = subprocess.run(
            [sys.executable, "-c", code, *args], env=env, cwd=house, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    return run


def at(house: Path) -> dict[str, str]:
    """Its package before any other. What was compiled or parsed before holds for it: it is known by what files say."""
    return {"PYTHONPATH": str(house)}


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
    assert number(said, "scenario", "model", "parameters") == 2 * 32000 * 1024 + 12 * layer + 1024


def test_a_device(tierwise: Tierwise) -> None:
    assert "My NPU board" in tierwise("machines", "newcomer-board")
    assert "newcomer-board" in tierwise("machines")
    said = json.loads(tierwise("explain", "smollm2-135m", "--on", "2xnewcomer-board", "--json", "-"))
    assert said["scenario"]["machine"]["devices"] == 2


def test_a_technique(tierwise: Tierwise) -> None:
    assert "keep_every" in tierwise("techniques")
    plain, half = (
        json.loads(tierwise("explain", "llama-2-7b", "--on", "h100-sxm", "--json", "-", *more))
        for more in ((), ("--technique", "keep_every:nth=2"))
    )
    ends = 2 * 32000 * 4096 + 4096  # embedding, head and the last norm stay
    whole = number(plain, "scenario", "model", "parameters")
    assert number(half, "scenario", "model", "parameters") == (whole - ends) / 2 + ends


def test_a_scheduler_a_router_and_the_steps_of_an_engine(tierwise: Tierwise) -> None:
    """Together, as one deployment has them."""
    pytest.importorskip("numba")
    given = ("--scheduler", "newcomer", "--router", "newcomer", "--engine", "newcomer")
    said = json.loads(
        tierwise("simulate", "llama-2-7b", "--on", "2xa100-80gb", "--replicas", "2", "--tp", "1", "--rate", "4/s",
                 "--prompt", "200", "--output", "20", "--requests", "40", "--json", "-", *given)
    )  # fmt: skip
    assert json.dumps(said).count('"newcomer"') >= len(given) / 2


def test_an_engine_that_launch_files_are_written_for(tierwise: Tierwise, tmp_path: Path) -> None:
    out = tmp_path / "deploy"
    tierwise("plan", "serve", "llama-3.1-8b", "--on", "h100-sxm", "--prompt", "1000", "--output", "200", "--ttft", "1s",
             "--tpot", "50ms", "--engine", "newcomer", "--no-confirm", "--out", str(out))  # fmt: skip
    scripts = list((out / "newcomer").glob("serve-*.sh"))
    assert scripts and "newcomer serve" in scripts[0].read_text()


def test_a_schedule(tierwise: Tierwise) -> None:
    base = ("explain", "llama-2-7b", "--on", "h100-sxm", "--json", "-", "--schedule")
    mine, plain = (json.loads(tierwise(*base, name)) for name in ("newcomer", "in_order"))
    assert number(mine, "summary", "ttft_s") == pytest.approx(number(plain, "summary", "ttft_s"), rel=1e-9)


def test_a_workload(tierwise: Tierwise) -> None:
    said = json.loads(tierwise("explain", "llama-2-7b", "--on", "h100-sxm", "--workload", "newcomer", "--json", "-"))
    assert [phase["name"] for phase in said["phases"]] == ["prefill"]


def test_a_paper(tierwise: Tierwise) -> None:
    assert "memory of weights" in tierwise("papers", "run", "newcomer")


@pytest.mark.parametrize("command", ["tierwise models | tail -1", 'tierwise machines | grep -E "^[0-9]+ "'])
def test_documents_do_not_count_what_there_is(house: Path, command: str) -> None:
    """What a page would show of a list still holds where there is more of it."""
    shown, printed = refresh.run(command), refresh.run(command, at(house))
    assert refresh.differences(command, shown, printed) == []
