"""What docs/adding-a-policy.md shows works as it says, and what cannot work is said in one line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("numba")

from tierwise.core.errors import TierwiseError
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
