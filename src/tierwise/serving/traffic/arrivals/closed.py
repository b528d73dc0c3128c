"""A closed loop: the client keeps so many requests in flight, and sends the next when one ends."""

from __future__ import annotations

import numpy as np

from tierwise.serving.traffic.trace import Floats


def times(n: int, rng: np.random.Generator, *, concurrency: float) -> Floats:
    """Zeros (n,): the answers decide when requests come."""
    return np.zeros(n)


def closed_loop(*, concurrency: float) -> int:
    """Requests in flight."""
    return int(concurrency)
