"""Anything a result holds, as a JSON value, and JSON as text."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from tierwise.core.files import write
from tierwise.core.numerics import Format


def plain(x: Any) -> Any:
    """Arrays to nested lists, formats to their names; what is not finite to None."""
    if x is None or isinstance(x, (bool, str)):
        return x
    if isinstance(x, (np.ndarray, np.generic)):
        return plain(x.tolist())
    if isinstance(x, (list, tuple)):
        return [plain(v) for v in x]
    if isinstance(x, dict):
        return {str(k): plain(v) for k, v in x.items()}
    if isinstance(x, int):
        return x
    if isinstance(x, float):
        return x if math.isfinite(x) else None
    if isinstance(x, Format):
        return plain(x.name)
    return str(x)


def put_json(to: str | None, value: Any) -> bool:
    """Write JSON to a file that somebody named, ``-`` to print it; whether that is all there is to print."""
    if to is None:
        return False
    write(to, json_text(value))
    if to != "-":
        print(f"JSON written to {to}")
    return to == "-"


def json_text(value: Any) -> str:
    """Text that any JSON reader takes: what is not finite or not known is null."""
    return json.dumps(plain(value), indent=2, ensure_ascii=True, allow_nan=False)
