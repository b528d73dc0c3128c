"""A two-state Markov-modulated Poisson process: bursts and quiet times of random, exponential lengths.

Source: Fischer and Meier-Hellstern, The Markov-modulated Poisson process (MMPP) cookbook, 1993.
"""

from __future__ import annotations

import numpy as np

from tierwise.core.errors import TierwiseError
from tierwise.serving.traffic.trace import Floats


def times(n: int, rng: np.random.Generator, *, rate: float, peak: float = 3.0, on: float = 30.0,
          off: float = 90.0) -> Floats:  # fmt: skip
    """Arrivals (n,) in seconds.

    Args:
        rate: a second, on average over bursts and quiet times.
        peak: rate in a burst, over the average.
        on, off: mean seconds of a burst and of a quiet time.

    Raises:
        TierwiseError: the bursts alone would bring more than the average.
    """
    share = on / (on + off)
    if not 1.0 <= peak <= 1.0 / share:
        raise TierwiseError(f"bursty: peak: found {peak:g}; allowed: 1 to {1 / share:g} (bursts are {share:.0%} of the "
                            "time, and cannot bring more than all requests)")  # fmt: skip
    high, low = peak * rate, rate * (1.0 - peak * share) / (1.0 - share)
    wanted = np.cumsum(rng.exponential(1.0, n))  # arrivals on a clock that ticks once a request
    pieces: list[Floats] = []
    intensity, starts_on = 0.0, rng.random() < share
    while intensity < wanted[-1]:
        # Pairs of states, about as many as should do, until there are enough.
        k = int(np.ceil((wanted[-1] - intensity) / (rate * (on + off)))) + 16
        spans = rng.exponential(np.tile([on, off] if starts_on else [off, on], k))
        pieces.append(spans)
        intensity += float(spans @ np.tile([high, low] if starts_on else [low, high], k))
    spans = np.concatenate(pieces)
    rates = np.tile([high, low] if starts_on else [low, high], len(spans) // 2)
    # Time-change: where the integral of the rate reaches what is wanted. Flat parts (no rate) jump.
    grown = np.concatenate([[0.0], np.cumsum(spans * rates)])
    clock = np.concatenate([[0.0], np.cumsum(spans)])
    piece = np.searchsorted(grown, wanted, side="left") - 1
    return np.asarray(clock[piece] + (wanted - grown[piece]) / rates[piece], np.float64)
