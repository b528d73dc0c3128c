"""Zipf between two values: value k, counted from ``low``, as likely as k to the minus ``exponent``."""

from __future__ import annotations

import numpy as np

from tierwise.core.errors import TierwiseError
from tierwise.serving.traffic.trace import Floats

SPAN = 1 << 24  # values that are weighed one by one


def draw(n: int, rng: np.random.Generator, *, low: float, high: float, exponent: float = 1.0) -> Floats:
    """Whole values (n,) from ``low`` to ``high``, both included."""
    if not low <= high < low + SPAN:
        raise TierwiseError(f"zipf: high: found {high:g}; allowed: at least low, {low:g}, and less than {SPAN:g} above")
    weight = np.arange(1, int(high) - int(low) + 2) ** -exponent
    grown = np.cumsum(weight)
    return np.asarray(int(low) + np.searchsorted(grown, rng.random(n) * grown[-1], side="right"), np.float64)
