"""What docs/adding-a-policy.md shows works as it says, and what cannot work is said in one line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("numba")

from tierwise.core.errors import TierwiseError, UnknownName
from tierwise.serving import policies
from tierwise.serving.simulate import simulate
from tierwise.serving.steps import plain_prices

from .test_simulate import poisson, served

DOC = Path(__file__).resolve().parents[2] / "docs/adding-a-policy.md"


def test_the_example_runs_and_compares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    policy, script = re.findall(r"```python\n(.*?)```", DOC.read_text(), re.S)
    assert len(policy.splitlines()) <= 30
    (tmp_path / "my_scheduler.py").write_text(policy)
    monkeypatch.chdir(tmp_path)
    exec(compile(script, "adding-a-policy.md", "exec"), {})
    out = capsys.readouterr().out
    assert "my_scheduler" in out and "shortest_first" in out


def test_an_edited_policy_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "slow.py"
    steps = []
    for most in (64, 16):
        file.write_text(f"def tokens(engine, request, tenant):\n    return min(request.left, engine.left, {most})\n")
        steps.append(simulate(poisson(20, 100), served(scheduler=str(file)), [plain_prices()]).totals["steps"])
    assert steps[1] > steps[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def other():\n    return 1\n", "needs a function 'tokens'"),
        ("def tokens(engine, request, tenant):\n    return request.colour\n", "cannot be compiled"),
        ("def tokens(engine, request, tenant:\n", "SyntaxError"),
        ("raise ValueError('no')\n", "ValueError"),
    ],
)
def test_what_cannot_work_is_said_with_the_file(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "bad.py"
    file.write_text(text)
    with pytest.raises(TierwiseError, match=said) as caught:
        simulate(poisson(2, 1), served(scheduler=str(file)), [plain_prices()])
    assert "bad.py" in str(caught.value) and len(str(caught.value).splitlines()) == 1


def test_a_new_kind_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its folder says what its files define; they are then found, checked and compiled as those of any other kind."""
    folder = tmp_path / "evictors"
    folder.mkdir()
    (folder / "__init__.py").write_text('NAME = "evictor"\nFUNCTIONS = {"victim": "int(engine, request)"}\n')
    (folder / "newest.py").write_text("def victim(engine, request):\n    return engine.running - 1\n")
    (tmp_path / "mine.py").write_text("def other(engine):\n    return 0\n")
    before = policies.kinds()
    monkeypatch.setattr(policies, "__path__", [*policies.__path__, str(tmp_path)])
    assert policies.kinds() == sorted([*before, "evictors"]) and policies.names("evictors") == ["newest"]
    assert callable(policies.load("evictors", "newest").function("victim"))
    with pytest.raises(TierwiseError, match="needs a function 'victim'"):
        policies.load("evictors", str(tmp_path / "mine.py"))
    with pytest.raises(UnknownName, match="evictor"):
        policies.load("evictors", "newst")


def test_no_two_kinds_define_the_same_function() -> None:
    found = [name for kind in policies.kinds() for name in policies.kind_of(kind).functions]
    assert len(set(found)) == len(found) >= 5
