"""Writing files: whole or not at all."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tierwise.errors import TierwiseError


def check_writable(path: str) -> None:
    """Refuse a target before any work is done; ``-`` is standard output."""
    if path == "-":
        return
    target = Path(path)
    if target.is_dir():
        raise TierwiseError(f"{path}: is a folder; give a file name")
    if not target.parent.is_dir():
        raise TierwiseError(f"{path}: the folder {target.parent} does not exist")
    if not os.access(target.parent, os.W_OK):
        raise TierwiseError(f"{path}: no permission to write in {target.parent}")


def write(path: str, text: str) -> None:
    """Write a file atomically (a temporary beside it, then a rename); ``-`` prints."""
    if path == "-":
        sys.stdout.write(text if text.endswith("\n") else text + "\n")
        return
    write_by(path, lambda temporary: _put(temporary, text))


def write_by(path: str, make: Callable[[str], None]) -> None:
    """Let ``make`` write a temporary file beside the target, then put it in its place: whole or not at all."""
    check_writable(path)
    target = Path(path)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    os.close(handle)
    try:
        make(temporary)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _put(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
