"""Always the same."""

from __future__ import annotations

import numpy as np

from tierwise.serving.traffic.trace import Floats


def draw(n: int, rng: np.random.Generator, *, value: float) -> Floats:
    """``value``, n times."""
    return np.full(n, float(value))
