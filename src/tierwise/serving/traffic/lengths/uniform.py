"""Anything between two values, each as likely."""

from __future__ import annotations

import numpy as np

from tierwise.serving.traffic.trace import Floats


def draw(n: int, rng: np.random.Generator, *, low: float, high: float) -> Floats:
    """Whole values (n,) from ``low`` to ``high``, both included."""
    return rng.integers(int(low), int(high), n, endpoint=True).astype(np.float64)
