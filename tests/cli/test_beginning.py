"""What a terminal shows while a command is loaded: said at once, gone before anything is printed, never in a pipe."""

from __future__ import annotations

import sys

import pytest

from tierwise.cli import main
from tierwise.cli._progress import beginning


def shown(text: str) -> str:
    """What a terminal's line holds after a text with carriage returns."""
    line = ""
    for part in text.split("\r"):
        line = part + line[len(part) :]
    return line.rstrip()


def test_it_is_said_before_anything_is_loaded_and_gone_when_the_command_begins(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with beginning(["explain", "llama-3.1-8b"]) as begun:
        said = capsys.readouterr().err
        assert said == "tierwise explain llama-3.1-8b: loading …"
        begun()
        assert shown(said + capsys.readouterr().err) == ""
        begun()
    assert capsys.readouterr().err == ""


def test_a_mistake_stands_on_a_line_of_its_own(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with pytest.raises(SystemExit):
        main(["exlain"])
    err = capsys.readouterr().err
    assert err.startswith("tierwise exlain: loading …\r")
    assert shown(err).startswith("tierwise: unknown command 'exlain'")


@pytest.mark.parametrize("columns", [20, 80])
def test_a_long_command_is_cut_with_a_mark(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    with beginning(["explain", "llama-3.1-8b", "--technique", "quantize_kv:bits=4,group=64", "--html", "p.html"]):
        line = capsys.readouterr().err
    assert len(line) < columns and line.endswith(" …")


@pytest.mark.parametrize("words", [["explain", "-h"], ["--version"], []])
def test_help_and_the_version_need_no_such_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with beginning(words):
        pass
    assert capsys.readouterr().err == ""


def test_a_pipe_holds_only_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["machines", "l4"])
    out = capsys.readouterr()
    assert (stop.value.code, out.err) == (0, "") and "NVIDIA L4" in out.out
