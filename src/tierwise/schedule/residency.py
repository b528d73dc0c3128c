"""What of a sweep is found in a cache that outlives it."""

from __future__ import annotations

import numpy as np

from tierwise.core.num import Num, maximum, minimum, where


def cyclic_lru(size: Num, capacity: Num, passes: Num = np.inf, warm: bool = False) -> Num:
    """Share of the bytes read that are found in a cache, for the same bytes read in the same order again and again.

    Args:
        size: bytes of one sweep (the weights of a model larger than memory, read layer by layer).
        capacity: bytes of the cache, which drops what was used least recently (an operating system's page cache).
        passes: sweeps, at least 1; without end unless given.
        warm: the sweep was made before: the first pass finds what later ones find.

    A sweep that fits is found whole from the second pass on. One that is larger finds nothing, ever: each byte is
    dropped just before it is read again.
    """
    first = 0.0 if warm else 1.0
    return where(np.asarray(size) <= capacity, 1.0 - first / maximum(passes, 1.0), 0.0)


def random_lru(size: Num, capacity: Num) -> Num:
    """The same for bytes that are read at random and alike often, such as the experts that tokens are sent to: what is
    cached is found, whatever is dropped first. Experts that are not alike often are found more often.
    """
    return minimum(1.0, capacity / maximum(size, 1e-300))
