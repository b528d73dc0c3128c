"""Requests at equal distances, as a load generator without randomness sends them."""

from __future__ import annotations

import numpy as np

from tierwise.serving.traffic.trace import Floats


def times(n: int, rng: np.random.Generator, *, rate: float) -> Floats:
    """Arrivals (n,) in seconds, ``rate`` a second, the first at 0."""
    return np.arange(n) / rate
