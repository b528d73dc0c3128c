"""``tierwise traffic`` says what a trace asks for and converts it; bad input is one line and exit code 2."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tierwise.cli import main
from tierwise.report.traffic import sparkline
from tierwise.serving import traffic

pytest.importorskip("pyarrow", reason="reading traces needs pyarrow (pip install 'tierwise[serve]')")


def run(*args: str) -> int:
    with pytest.raises(SystemExit) as exit_:
        main(["traffic", *args])
    return int(exit_.value.code or 0)


def test_a_trace_is_summarized_with_its_arrivals_and_notices(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "t.csv"
    path.write_text("arrival,prompt,output\n" + "".join(f"{i},100,10\n" for i in range(61)) + "9,0,1\n")
    assert run(str(path)) == 0
    out = capsys.readouterr().out
    assert "61 requests over 60.0 s, 1 requests/s" in out
    assert "mean 100" in out
    assert "▅" * 59 + "█" in out  # the last bar holds both ends
    assert "note: 1 row of 62 refused: line 63: prompt" in out


def test_it_converts_and_makes_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "o.csv"
    args = ("--requests", "50", "--arrivals", "gamma:rate=2,cv=2", "--turns", "3", "--think", "exponential:mean=5s")
    assert run(*args, "--out", str(out), "--json", "-") == 0
    row = json.loads(capsys.readouterr().out)
    assert row["requests"] == len(traffic.load(out)) == 50
    assert row["sessions"] == 17
    assert run(str(out), "--arrivals", "closed:concurrency=4", "--limit", "10") == 0
    assert "a closed loop with 4 in flight" in capsys.readouterr().out
    assert run(str(out), "--limit", "2", "--out", "-") == 0
    assert capsys.readouterr().out.splitlines()[0].replace('"', "").startswith("arrival,prompt,output")


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("none.csv",), "none.csv: there is no such file"),
        (("--arrivals", "poison:rate=3"), "did you mean 'poisson'"),
        (("--requests", "0"), "requests: found 0"),
        (("--out", "/nowhere/x.csv"), "/nowhere"),
    ],
)
def test_bad_input_is_one_line(args: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*args) == 2
    error = capsys.readouterr().err
    assert told in error
    assert "Traceback" not in error


def test_a_sparkline_is_as_high_as_its_values() -> None:
    import numpy as np

    assert sparkline(np.array([0.0, 1.0, 2.0])) == "▁▅█"
