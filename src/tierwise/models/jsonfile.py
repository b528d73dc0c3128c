"""Reading JSON that came from somewhere else: bounded in size and depth, errors with line and column."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tierwise.core.errors import BadField, TierwiseError, Truncated
from tierwise.core.refusals import json_cut, json_problem

LARGEST = 20_000_000  # bytes; the largest real configuration we know (per-layer quantization) has 3 MB
DEEPEST = 64  # nesting; real configurations stay below 10

# A string to its closing quote, or to the end of a truncated file: linear on any input.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)


def read_json(path: Path, largest: int = LARGEST) -> Mapping[str, Any]:
    """The mapping in a JSON file.

    Raises:
        BadField: too large, too deep, or not a mapping.
        Truncated: the file ends inside a value.
        TierwiseError: not readable, or not JSON.
    """
    try:
        size = path.stat().st_size
        if size > largest:
            raise BadField(str(path), "size", f"{size} bytes", f"at most {largest} bytes")
        data = path.read_bytes()
    except OSError as error:
        raise TierwiseError(f"{path}: cannot be read: {error.strerror or error}") from None
    return parse_json(data, str(path))


def parse_json(data: bytes, where: str) -> Mapping[str, Any]:
    """The mapping in JSON text; see :func:`read_json`."""
    deepest = nesting(data)
    if deepest > DEEPEST:
        raise BadField(where, "nesting", f"{deepest} levels", f"at most {DEEPEST} levels")
    try:
        value = json.loads(data.decode("utf-8-sig"), parse_int=_integer)
    except UnicodeDecodeError as error:
        raise TierwiseError(f"{where}: not UTF-8 text (byte {error.start})") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        if json_cut(error):
            raise Truncated(where, error.pos, f"{json_problem(error)} ({place})") from None
        raise TierwiseError(f"{where}: malformed JSON at {place}: {json_problem(error)}") from None
    if not isinstance(value, dict):
        raise BadField(where, "(whole file)", value, "a JSON object")
    return value


def nesting(data: bytes) -> int:
    """The deepest nesting of brackets outside strings, counted without parsing."""
    bare = np.frombuffer(_STRING.sub(b"", data), dtype=np.uint8)
    steps = np.zeros(len(bare), dtype=np.int8)
    steps[(bare == ord("[")) | (bare == ord("{"))] = 1
    steps[(bare == ord("]")) | (bare == ord("}"))] = -1
    return int(np.cumsum(steps, dtype=np.int64).max(initial=0))


def _integer(digits: str) -> int | float:
    """Integers too long to be sizes become floats, so that nothing overflows later."""
    return int(digits) if len(digits) < 20 else float(digits)
