"""Anything between two values, each as likely."""

from __future__ import annotations

import numpy as np

from tierwise.core.errors import TierwiseError
from tierwise.serving.traffic.trace import Floats


def draw(n: int, rng: np.random.Generator, *, low: float, high: float) -> Floats:
    """Whole values (n,) from ``low`` to ``high``, both included."""
    if high < low:
        raise TierwiseError(f"uniform: high: found {high:g}; allowed: at least low, {low:g}")
    return rng.integers(int(low), int(high), n, endpoint=True).astype(np.float64)
