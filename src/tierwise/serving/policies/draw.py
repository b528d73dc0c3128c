"""Random numbers that policies may use: a function of what they are for, so that a run is the same every time."""

from __future__ import annotations

import numpy as np

from tierwise.serving.jit import jit


@jit
def uniform(seed, a, b):  # type: ignore[no-untyped-def]
    """A number in [0, 1) that depends on nothing but its arguments (SplitMix64; Steele, Lea, Flood, OOPSLA 2014,
    doi:10.1145/2660193.2660195)."""
    x = np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(a) * np.uint64(0xD1342543DE82EF95)
    x += np.uint64(b) * np.uint64(0xC2B2AE3D27D4EB4F) + np.uint64(0x9E3779B97F4A7C15)
    for _ in range(2):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
    return np.float64(x >> np.uint64(11)) * (1.0 / 9007199254740992.0)
