"""Requests independent of each other: exponential times between them."""

from __future__ import annotations

import numpy as np

from tierwise.serving.traffic.trace import Floats


def times(n: int, rng: np.random.Generator, *, rate: float) -> Floats:
    """Arrivals (n,) in seconds, ``rate`` a second on average."""
    return np.cumsum(rng.exponential(1.0 / rate, n))
