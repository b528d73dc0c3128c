"""Files are written whole or not at all; what is no file is written to, never replaced."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from tierwise.cli import main
from tierwise.core.errors import TierwiseError
from tierwise.core.files import check_writable, write, write_by


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.html"
    target.write_text("old")

    def stopped(temporary: str) -> None:
        Path(temporary).write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_by(str(target), stopped)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    real, link = tmp_path / "folder" / "real.txt", tmp_path / "link.txt"
    real.write_text("old")
    link.symlink_to(real)
    write(str(link), "new")
    assert link.is_symlink()
    assert real.read_text() == "new"
    assert list((tmp_path / "folder").iterdir()) == [real]


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_text()))
    reader.start()
    write(str(pipe), "text")
    reader.join(10)
    assert got == ["text"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.parametrize(
    ("path", "told"),
    [("missing/a.csv", "does not exist"), (".", "is a folder"), ("a.foo", "ends in '.foo'; allowed: .csv"),
     ("a", "ends in 'nothing'; allowed: .csv")],
)  # fmt: skip
def test_targets_that_cannot_be_are_refused_first(
    tmp_path: Path, path: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TierwiseError, match=told):
        check_writable(path, (".csv",))
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_a_full_disk_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["explain", "llama-3.1-8b", "--on", "h100-sxm", "--json", "/dev/full"])
    assert stopped.value.code == 2
    assert "No space left" in capsys.readouterr().err
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)
