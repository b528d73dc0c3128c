"""Numbers that may be one or many.

Every size in Tierwise is a :data:`Num`: a Python number or a NumPy array. Functions here keep
scalars scalar, so that a single scenario prints as plain floats and a sweep stays an array.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Num: TypeAlias = float | NDArray[np.float64]


def num(x: Any) -> Num:
    """A float, or a float64 array: whichever ``x`` is."""
    if isinstance(x, (int, float)):
        return float(x)
    array = np.asarray(x, dtype=np.float64)
    return float(array) if array.ndim == 0 else array


def scalar(x: Num) -> Num:
    """Undo NumPy's 0-d results: ``np.maximum(1.0, 2.0)`` is a NumPy scalar, this makes it a float."""
    return float(x) if np.ndim(x) == 0 else x


def ceil_div(a: Num, b: Num) -> Num:
    """``ceil(a / b)``, robust to the last bits of a float division (7.000000000001 counts as 7)."""
    # Relative, so that a sliver of a whole (512 tokens in passes of 1e12) still counts as one.
    return scalar(np.ceil(np.asarray(a) / b * (1.0 - 1e-12)))


def maximum(*xs: Num) -> Num:
    """Elementwise maximum of any number of broadcastable values."""
    out = xs[0]
    for x in xs[1:]:
        out = max(out, x) if isinstance(out, float) and isinstance(x, float) else np.maximum(out, x)
    return out


def minimum(*xs: Num) -> Num:
    """Elementwise minimum of any number of broadcastable values."""
    out = xs[0]
    for x in xs[1:]:
        out = min(out, x) if isinstance(out, float) and isinstance(x, float) else np.minimum(out, x)
    return out


def greatest(x: Any) -> float:
    """The largest of one number or many."""
    return float(np.max(np.asarray(x)))


def summed(xs: Iterable[Num]) -> Num:
    """Their sum, 0.0 of none. What varies in few ways is added up before what varies in many, so that most additions
    are of small arrays."""
    out: Num = 0.0
    for x in sorted(xs, key=np.size):
        out = out + x
    return out


def where(condition: Any, yes: Num, no: Num) -> Num:
    """``yes if condition else no``, elementwise."""
    return scalar(np.where(condition, yes, no))


def is_array(x: Any) -> bool:
    """True for an array with at least one axis."""
    return isinstance(x, np.ndarray) and x.ndim > 0


def is_zero(x: Any) -> bool:
    """True when every element is zero, so that a part of the work is surely absent."""
    return x == 0 if isinstance(x, (int, float)) else not np.any(x)
