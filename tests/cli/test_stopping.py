"""What a user sees who waits or has waited enough: progress, Ctrl-C with what is known, completion of what is typed."""

from __future__ import annotations

import shutil
import subprocess
import time
from typing import Any

import pytest

from tierwise.cli import _progress, main

PLAN = ("plan", "serve", "llama-3.2-1b", "--on", "h100-sxm", "--rate", "2/s", "--ttft", "2s", "--tpot", "50ms")


@pytest.fixture(scope="module")
def completion() -> str:
    from tierwise.cli._completion import completion as script

    if shutil.which("bash") is None:
        pytest.skip("there is no bash here")
    return script("bash")


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(list(args))
    out = capsys.readouterr()
    return int(stop.value.code or 0), out.out, out.err


def stopping(after: int, real: Any) -> Any:
    """A simulation of finalists that the user stops in the run after so many."""
    done: list[int] = []

    def simulated(*args: Any) -> Any:
        if len(done) == after:
            raise KeyboardInterrupt
        done.append(1)
        return real(*args)

    return simulated


@pytest.mark.parametrize("after", [0, 1])
def test_a_stopped_plan_says_what_is_known_by_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    pytest.importorskip("numba")
    from tierwise.search import finalists

    monkeypatch.setattr(finalists, "simulated", stopping(after, finalists.simulated))
    code, out, err = run(capsys, *PLAN)
    assert code == 130
    assert "NVIDIA H100" in out and "TPOT" in out
    assert f"stopped by the user after {after} simulated finalists" in err


def test_stopping_before_there_is_an_answer_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tierwise.search import serve

    def stop(*args: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(serve, "curves_of", stop)
    code, out, err = run(capsys, *PLAN)
    assert (code, out) == (130, "")
    assert "stopped by the user before there was an answer" in err


def test_a_stopped_search_for_what_fits_shows_what_it_looked_at(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tierwise.report import fit_report

    monkeypatch.setattr(fit_report, "row", stopping(1, fit_report.row))
    code, out, err = run(capsys, "fit", "llama-3.2-1b", "--on", "rtx-3060", "--on", "rtx-4090", "--quant", "fp16")
    assert code == 130 and "after 1 of 2" in err
    assert "3060" in out and "4090" not in out


def test_stopped_papers_show_those_that_ran(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tierwise.papers import suite

    monkeypatch.setattr(suite, "run", stopping(1, suite.run))
    code, out, err = run(capsys, "papers", "run", "llm-viewer", "gpipe", "--jobs", "1")
    assert code == 130 and "after 1 of 2" in err and "gpipe" not in out.lower()


def test_a_reader_that_goes_away_is_no_failure() -> None:
    import sys

    code = "from tierwise.cli import main; main(['machines'])"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        told = process.stderr.read()
    assert (process.returncode, said_of(told)) == (0, [])


def said_of(told: bytes) -> list[bytes]:
    """Lines of standard error other than those of what lasts."""
    return [line for line in told.splitlines() if not line.endswith("…".encode())]


def test_lines_are_said_of_what_lasts_and_of_nothing_else(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with _progress.progress("short"):
        pass
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(_progress, "FIRST_S", 0.01)
    with _progress.progress("waiting") as tell:
        tell("pricing", 1, 3, "compiling")
        time.sleep(0.1)
    assert capsys.readouterr().err == "tierwise: pricing 1 of 3: compiling …\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--prompt", "1e99"), "--prompt: found 1e+99; allowed: a whole number, or a rule such as "
         "lognormal:mean=1000,cv=1, at most 1e+18"),
        (("--images", "3"), "--images: found 3.0; allowed: 0: llama-3.2-1b has no part that looks at images"),
        (("--chunk", "0"), "--chunk: found 0; allowed: a whole number of at least 1"),
        (("--kv", "int4-g" + "9" * 300), "unknown number format"),
        (("--weights", "0bit"), "unknown number format '0bit'"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], told: str
) -> None:
    code, out, err = run(capsys, "explain", "llama-3.2-1b", "--on", "h100-sxm", *words)
    assert (code, out) == (2, "")
    assert told in err and err.count("\n") == 1 and len(err) < 400


@pytest.mark.parametrize("command", ["simulate", "plan serve"])
def test_a_time_without_a_unit_is_asked_for_one(capsys: pytest.CaptureFixture[str], command: str) -> None:
    words = (*command.split(), "llama-3.2-1b", "--on", "h100-sxm", "--rate", "1/s", "--ttft", "500")
    code, _, err = run(capsys, *words)
    assert code == 2
    assert "--ttft: found '500', a time without its unit: 500s or 500ms?" in err


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("tierwise ex", "explain"),
        ("tierwise plan s", "serve"),
        ("tierwise explain llama-3.1-8b --pro", "--prompt"),
        ("tierwise plan serve llama-3.1-8b --tt", "--ttft"),
        ("tierwise explain llama-3.1-8b --on h200-s", "h200-sxm"),
        ("tierwise explain mixtral-8x7", "mixtral-8x7b"),
        ("tierwise simulate x --format moon", "mooncake"),
    ],
)
def test_bash_completes_commands_flags_and_names(completion: str, typed: str, offered: str) -> None:
    words = typed.split()
    asked = f"{completion}\nCOMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; _tierwise\n"
    found = subprocess.run(["bash", "-c", asked + 'echo "${COMPREPLY[@]}"'], capture_output=True, text=True, check=True)
    assert offered in found.stdout.split() and not found.stderr


def test_other_shells_have_a_script_and_unknown_ones_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--completion", "fish")
    assert code == 0 and "complete -c tierwise -n '__fish_seen_subcommand_from explain' -l prompt" in out
    assert run(capsys, "--completion", "zsh")[1].startswith("#compdef tierwise")
    code, _, err = run(capsys, "--completion", "tcsh")
    assert code == 2 and "there are bash, zsh, fish" in err
