"""Gamma times between requests: ``cv`` above 1 is burstier than Poisson, below 1 more regular, 1 the same.

As vLLM's ``benchmark_serving --burstiness`` (its burstiness is 1 / cv²): vllm/benchmarks/serve.py.
"""

from __future__ import annotations

import numpy as np

from tierwise.serving.traffic.trace import Floats


def times(n: int, rng: np.random.Generator, *, rate: float, cv: float = 1.0) -> Floats:
    """Arrivals (n,) in seconds, ``rate`` a second on average; ``cv``: deviation over mean of the times between."""
    shape = cv**-2
    return np.cumsum(rng.gamma(shape, 1.0 / (rate * shape), n))
