"""Writing files: whole or not at all."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tierwise.core.errors import TierwiseError


def cache_folder(name: str) -> Path:
    """Where the user's copies of one kind lie; what is there can always be made again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "tierwise" / name


def check_writable(path: str, endings: tuple[str, ...] = ()) -> None:
    """Refuse a target before any work is done; ``-`` is standard output.

    Args:
        endings: those that the file's name may have, where its format follows from it.
    """
    if path == "-" and not endings:
        return
    if "\0" in path:
        raise TierwiseError(f"{path!r}: a file name has no zero character")
    target = Path(path)
    if target.is_dir():
        raise TierwiseError(f"{path}: is a folder; give a file name")
    ending = target.suffix or "nothing"
    if endings and not _stream(target) and ending.lower() not in endings:
        raise TierwiseError(f"{path}: ends in {ending!r}; allowed: {' or '.join(endings)}")
    if not target.parent.is_dir():
        raise TierwiseError(f"{path}: the folder {target.parent} does not exist")
    try:
        if not _stream(target):
            tempfile.TemporaryFile(dir=Path(os.path.realpath(target)).parent).close()
        elif not os.access(target, os.W_OK):
            raise TierwiseError(f"{path}: no permission to write")
    except OSError as error:
        raise TierwiseError(f"{path}: cannot write in {target.parent}: {error.strerror}") from None


def _stream(target: Path) -> bool:
    """Whether it is a device or a pipe, which is written to and never replaced."""
    return target.exists() and not target.is_file() and not target.is_dir()


def write(path: str, text: str) -> None:
    """Write a file atomically (a temporary beside it, then a rename); ``-`` prints."""
    if path == "-":
        sys.stdout.write(text if text.endswith("\n") else text + "\n")
        return
    write_by(path, lambda temporary: _put(temporary, text))


def write_by(path: str, make: Callable[[str], None]) -> None:
    """Let ``make`` write a temporary file beside the target, then put it in its place: whole or not at all.

    A link stays one: the file it names is replaced. Devices and pipes (``/dev/stdout``) are written to as they are.
    """
    check_writable(path)
    if _stream(Path(path)):
        make(path)
        return
    target = Path(os.path.realpath(path))
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
