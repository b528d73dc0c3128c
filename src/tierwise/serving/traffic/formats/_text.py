"""A file's bytes, unpacked and checked to be text."""

from __future__ import annotations

import codecs
import gzip
import zlib
from pathlib import Path

from tierwise.core.errors import TierwiseError

HEAD = 1 << 16
_GZIP = b"\x1f\x8b"
_OTHER = {codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16", b"PK\x03\x04": "a zip archive",
          b"PAR1": "a Parquet file", b"\x28\xb5\x2f\xfd": "zstd-compressed"}  # fmt: skip


def content(path: Path, limit: int = -1) -> bytes:
    """The first ``limit`` bytes (all of them for -1) of a text file, plain or gzip, without its byte order mark."""
    try:
        with path.open("rb") as plain:
            packed = plain.read(2) == _GZIP
            plain.seek(0)
            if packed:
                with gzip.open(plain) as unpacked:
                    data = unpacked.read(limit)
            else:
                data = plain.read(limit)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise TierwiseError(f"{path}: the gzip file is damaged or cut off") from error
    for mark, name in _OTHER.items():
        if data.startswith(mark):
            raise TierwiseError(f"{path}: is {name}; allowed: UTF-8 text, plain or gzip")
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
