"""Pipes, closed streams and terminals without our letters: the same answers, and never a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

pytest.importorskip("pyarrow", reason="reading traces needs pyarrow")

MACHINE = ("machines", "l4")
TRACE = "\n".join(
    json.dumps({"timestamp": 1000 * i, "input_length": 600, "output_length": 10, "hash_ids": [0, i]}) for i in range(4)
)


def tierwise(*args: str, shell: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    """A process of its own. ``shell``: what a shell adds; ``more``: environment."""
    command = [sys.executable, "-m", "tierwise", *args]
    if shell:
        command = ["sh", "-c", f'exec "$@" {shell}', "sh", *command]
    environment = {**os.environ, **more}
    return subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", env=environment, timeout=120, check=False
    )


@pytest.mark.parametrize("shell", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams_are_no_fault(shell: str) -> None:
    assert tierwise(*MACHINE, shell=shell).returncode == 0
    assert tierwise("machines", "no-such-machine", shell=shell).returncode == 2


def test_an_ascii_terminal_gets_ascii_for_every_sign() -> None:
    said = tierwise(*MACHINE, PYTHONIOENCODING="ascii")
    assert said.returncode == 0 and "Traceback" not in said.stderr
    assert said.stdout.isascii() and "?" not in said.stdout and "24GB" in said.stdout


def test_a_full_disk_is_said_in_a_line() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    said = tierwise("machines", "l4", shell=">/dev/full")
    assert said.returncode == 2 and said.stderr.splitlines()[-1] == "tierwise: No space left on device"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
@pytest.mark.parametrize(("text", "code"), [(TRACE, 0), ('{"a": 1}', 2), ("", 2)])
def test_a_trace_through_a_pipe_is_the_trace_of_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, code: int
) -> None:
    from tierwise.cli import main

    plain, pipe = tmp_path / "t.jsonl", tmp_path / "pipe"
    plain.write_text(text)
    os.mkfifo(pipe)
    said = []
    for path in (plain, pipe):
        writer = threading.Thread(target=lambda: pipe.write_text(text), daemon=True)
        if path is pipe:
            writer.start()
        with pytest.raises(SystemExit) as stop:
            main(["traffic", str(path)])
        out = capsys.readouterr()
        said.append((stop.value.code, (out.out + out.err).replace(str(path), "FILE")))
    assert said[0] == said[1] and said[0][0] == code
