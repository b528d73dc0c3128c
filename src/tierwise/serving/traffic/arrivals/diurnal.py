"""A day's wave: a Poisson process whose rate follows a cosine."""

from __future__ import annotations

import numpy as np

from tierwise.core.errors import TierwiseError
from tierwise.serving.traffic.trace import Floats

GRID = 4096  # points of one period on which the integral of the rate is inverted; between them it is linear


def times(n: int, rng: np.random.Generator, *, rate: float, swing: float = 0.8, period: float = 86400.0,
          peak: float = 0.5) -> Floats:  # fmt: skip
    """Arrivals (n,) in seconds.

    Args:
        rate: a second, on average over a period.
        swing: how far the rate rises and falls, over the average: 0 (steady) to 1 (nothing at night).
        period: seconds of the wave.
        peak: when in the period the rate is highest, 0 to 1.
    """
    if not 0 <= swing <= 1:
        raise TierwiseError(f"diurnal: swing: found {swing:g}; allowed: 0 to 1")
    wanted = np.cumsum(rng.exponential(1.0, n))
    x = np.linspace(0.0, 1.0, GRID + 1)
    grown = rate * period * (x + swing / (2 * np.pi) * (np.sin(2 * np.pi * (x - peak)) + np.sin(2 * np.pi * peak)))
    days, rest = np.divmod(wanted, rate * period)
    return np.asarray((days + np.interp(rest, grown, x)) * period, np.float64)
