"""What no other choice beats."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tierwise.serving.step_times import Array


def front(cost: Array, gain: Array) -> NDArray[np.intp]:
    """Positions that no other one beats: none is at most as costly and gains at least as much, one of both strictly.

    Args:
        cost, gain: shape (n,); entries that are not finite never belong.

    Returns:
        Positions by rising cost (and so by rising gain); of equal ones the first.
    """
    usable = np.flatnonzero(np.isfinite(cost) & np.isfinite(gain))
    order = usable[np.lexsort((usable, -gain[usable], cost[usable]))]
    if not len(order):
        return order
    best = np.maximum.accumulate(gain[order])
    first = np.concatenate([[True], gain[order][1:] > best[:-1]])
    return np.asarray(order[first])
