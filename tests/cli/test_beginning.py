"""What is said while a command works: on a terminal at once, and gone before anything is printed; elsewhere a line of
what lasts, before the answer, and nothing of what does not."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from tierwise.cli import _progress, main
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


def test_a_pipe_holds_only_the_answer(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_progress, "FIRST_S", threading.TIMEOUT_MAX)
    with pytest.raises(SystemExit) as stop:
        main(["machines", "l4"])
    out = capsys.readouterr()
    assert (stop.value.code, out.err) == (0, "") and "NVIDIA L4" in out.out


def until(come: Callable[[], bool]) -> None:
    for _ in range(1000):
        if come():
            return
        time.sleep(0.01)
    raise AssertionError("it was not said")


def test_what_lasts_is_said_in_a_pipe_with_what_was_asked_and_before_the_answer(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_progress, "FIRST_S", 0.0)
    said: list[str] = []

    def heard() -> bool:
        out = capsys.readouterr()
        said.append(out.err)
        assert out.out == ""
        return "\n" in out.err

    with beginning(["explain", "llama-3.1-8b"]):
        until(heard)
        assert "".join(said) == "tierwise: explain llama-3.1-8b: loading …\n"
        monkeypatch.setattr(_progress, "AGAIN_S", 0.0)
    with beginning(["explain", "llama-3.1-8b"]):
        until(heard)
        said.clear()
        with _progress.progress("pricing one pass"):
            until(heard)
            assert "".join(said) == "tierwise: pricing one pass …\n"
        print("the answer")
        capsys.readouterr()
        time.sleep(0.05)
        assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "words",
    [
        ["explain", "llama-3.2-1b", "--on", "l4"],
        ["compare", "llama-3.2-1b --on l4", "… --weights fp8"],
        ["fit", "llama-3.2-1b", "--on", "l4"],
        ["simulate", "llama-3.2-1b", "--on", "l4", "--rate", "1/s", "--requests", "20"],
        ["goodput", "llama-3.2-1b", "--on", "l4", "--ttft", "500ms", "--tpot", "50ms", "--requests", "20"],
        ["plan", "serve", "llama-3.2-1b", "--on", "l4", "--rate", "1/s"],
        ["plan", "train", "llama-3.2-1b", "--on", "8xh100-sxm"],
        ["plan", "fit", "llama-3.2-1b", "--on", "l4"],
    ],
)
def test_every_command_that_works_says_so_before_its_answer(
    words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Standard output and standard error of one file, as a log has them: what is done, then the answer."""
    monkeypatch.setattr(_progress, "FIRST_S", 0.0)
    heard: list[tuple[str, str]] = []

    def stream(name: str) -> object:
        class Stream(io.StringIO):
            def write(self, text: str) -> int:
                if text.strip():
                    heard.append((name, text))
                return len(text)

        return Stream()

    monkeypatch.setattr(sys, "stdout", stream("answer"))
    monkeypatch.setattr(sys, "stderr", stream("said"))
    with pytest.raises(SystemExit) as stop:
        main(words)
    names = [name for name, _ in heard]
    first = names.index("answer")
    assert stop.value.code == 0
    assert heard[0][0] == "said" and heard[0][1].startswith(f"tierwise: {' '.join(words)}: ")
    assert "said" not in names[first:]


@pytest.mark.parametrize("command", ["techniques", "machines --json -"])
def test_a_reader_that_has_seen_enough_is_no_failure(command: str) -> None:
    """Both ways in which lists are printed: line by line, and as one text."""
    run = subprocess.Popen([sys.executable, "-m", "tierwise", *command.split()], stdout=subprocess.PIPE,
                           stderr=subprocess.DEVNULL)  # fmt: skip
    assert run.stdout is not None
    run.stdout.close()
    assert run.wait(timeout=60) == 0
