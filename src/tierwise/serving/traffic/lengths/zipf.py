"""Zipf between two values: value k, counted from ``low``, as likely as k to the minus ``exponent``."""

from __future__ import annotations

import numpy as np

from tierwise.serving.traffic.trace import Floats


def draw(n: int, rng: np.random.Generator, *, low: float, high: float, exponent: float = 1.0) -> Floats:
    """Whole values (n,) from ``low`` to ``high``, both included."""
    weight = np.arange(1, int(high) - int(low) + 2) ** -exponent
    grown = np.cumsum(weight)
    return np.asarray(int(low) + np.searchsorted(grown, rng.random(n) * grown[-1], side="right"), np.float64)
