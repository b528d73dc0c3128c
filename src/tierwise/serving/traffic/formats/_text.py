"""A file's bytes, unpacked and checked to be text."""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tierwise.core.errors import TierwiseError

HEAD = 1 << 16
_OTHER = {codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16", b"PK\x03\x04": "a zip archive",
          b"7z\xbc\xaf": "a 7z archive", b"PAR1": "a Parquet file", b"ARROW1": "an Arrow file"}  # fmt: skip


def _zstd(plain: Any) -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise TierwiseError(arrow_extra()) from error
    return pyarrow.CompressedInputStream(pyarrow.PythonFile(plain, "r"), "zstd")


# How a packed file begins, what it is called, and what unpacks it.
_PACKED: dict[bytes, tuple[str, Callable[[Any], Any]]] = {
    b"\x1f\x8b": ("gzip", gzip.open), b"\x28\xb5\x2f\xfd": ("zstd", _zstd), b"BZh": ("bzip2", bz2.open),
    b"\xfd7zXZ\x00": ("xz", lzma.open),
}  # fmt: skip
ALLOWED = f"UTF-8 text, plain or packed by {', '.join(name for name, _ in _PACKED.values())}"


def content(path: Path, limit: int = -1) -> bytes:
    """The first ``limit`` bytes (all of them for -1) of a text file, plain or packed, without its byte order mark."""
    with path.open("rb") as plain:
        begins = plain.read(6)
        plain.seek(0)
        kind, opened = next((p for mark, p in _PACKED.items() if begins.startswith(mark)), ("", None))
        try:
            if opened is None:
                data = plain.read(limit)
            else:
                with opened(plain) as unpacked:
                    data = unpacked.read(limit if limit >= 0 else None)
        except (zlib.error, lzma.LZMAError, EOFError, ValueError, OSError) as error:
            if not kind:
                raise
            raise TierwiseError(f"{path}: the {kind} file is damaged or cut off") from error
    for mark, name in _OTHER.items():
        if data.startswith(mark):
            raise TierwiseError(f"{path}: is {name}; allowed: {ALLOWED}")
    return data.removeprefix(codecs.BOM_UTF8)


def checked(path: Path, data: bytes) -> bytes:
    """The same bytes, known to be UTF-8 text that is not empty."""
    if not data.strip():
        raise TierwiseError(f"{path}: is empty; it should hold requests")
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        found = f"byte 0x{data[error.start]:02x}"
        raise TierwiseError(f"{path}: line {line}: found {found}, which is not UTF-8; allowed: UTF-8 text") from error
    return data


def arrow_extra() -> str:
    """What to say when pyarrow is not there."""
    return "reading traces needs pyarrow: pip install 'tierwise[serve]'"
