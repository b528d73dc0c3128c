"""A user's file is read as it is, whenever it was written, and leaves nothing beside it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tierwise.core.errors import TierwiseError
from tierwise.core.userfile import executed


def test_an_edit_of_the_same_length_and_time_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.dont_write_bytecode", False)
    file, found = tmp_path / "mine.py", []
    for value in (1, 2):
        file.write_text(f"VALUE = {value}\n")
        os.utime(file, (1_000_000_000, 1_000_000_000))
        found.append(executed(file, "tierwise_test_mine").VALUE)
    assert found == [1, 2]
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("text", "said"),
    [("x = 1\ny = 1 / 0\n", "line 2: ZeroDivisionError"), ("x = 1\nif\n", "line 2: SyntaxError"),
     ("raise SystemError('no')\n", "line 1: SystemError: no")],
)  # fmt: skip
def test_what_is_wrong_in_it_is_said_with_its_line(text: str, said: str, tmp_path: Path):
    file = tmp_path / "broken.py"
    file.write_text(text)
    with pytest.raises(TierwiseError, match=said):
        executed(file, "tierwise_test_broken")
