"""Anything between two values, each as likely."""

from __future__ import annotations

import numpy as np

from tierwise.core.errors import TierwiseError
from tierwise.serving.traffic.trace import Floats

MOST = 2.0**53  # beyond it not every whole number is one of its own


def draw(n: int, rng: np.random.Generator, *, low: float, high: float) -> Floats:
    """Whole values (n,) from ``low`` to ``high``, both included."""
    if high < low:
        raise TierwiseError(f"uniform: high: found {high:g}; allowed: at least low, {low:g}")
    if not 0.0 <= low <= high <= MOST:
        raise TierwiseError(f"uniform: found {low:g} to {high:g}; allowed: 0 to {MOST:g}")
    return rng.integers(int(low), int(high), n, endpoint=True).astype(np.float64)
