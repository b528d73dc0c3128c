"""Exponential: thinking times, and sessions that end as likely after each turn."""

from __future__ import annotations

import numpy as np

from tierwise.serving.traffic.trace import Floats


def draw(n: int, rng: np.random.Generator, *, mean: float) -> Floats:
    """Values (n,) of that mean."""
    return rng.exponential(mean, n)
