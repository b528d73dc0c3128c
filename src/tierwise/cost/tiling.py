"""Traffic of a tiled matmul between a large memory and a fast one of limited capacity.

Counts, not prices: how many elements must cross when the work is cut into the tiles that fit, over every tile
shape and loop order considered. The two-memory model is Hong and Kung's (1981). All sizes may be arrays.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tierwise.core.num import Num, scalar

# Tile sides tried: four an octave up to 2**30, as whole numbers. The exact optimum of a square is added.
_SIDES = np.unique(np.floor(2.0 ** (np.arange(0, 121) / 4.0)))


def matmul_traffic(m: Num, n: Num, k: Num, capacity: Num) -> Num:
    """Fewest elements moved by (m, k) × (k, n) when ``capacity`` elements fit in the fast memory.

    One operand's tile stays while the two others stream past it, one row or column at a time: the product's
    (each element written once), the left factor's or the right's (partial sums then come and go). Infinite
    where not even one row's three elements fit.
    """
    m, n, k, size = (np.asarray(x, dtype=float)[..., None] for x in (m, n, k, capacity))
    down, across = _passes(m, n, size)
    product = m * k * across + k * n * down + m * n
    down, across = _passes(m, k, size)
    left = m * k + k * n * down + m * n * (2.0 * across - 1.0)
    down, across = _passes(n, k, size)
    right = k * n + m * k * down + m * n * (2.0 * across - 1.0)
    return scalar(np.min(np.minimum(np.minimum(product, left), right), axis=-1))


def _passes(
    rows: NDArray[np.float64], columns: NDArray[np.float64], capacity: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How many tiles a matrix is high and wide, for each height tried (last axis).

    Of each height the widest tile that fits with one row and one column beside it; infinite where none does.
    """
    square = np.maximum(np.floor(np.sqrt(capacity + 1.0)) - 1.0, 1.0)
    shape = np.broadcast_shapes(rows.shape, columns.shape, capacity.shape)[:-1]
    grid = np.broadcast_to(_SIDES, (*shape, _SIDES.size))
    sides = np.concatenate([grid, np.broadcast_to(square, (*shape, 1)), np.broadcast_to(rows, (*shape, 1))], axis=-1)
    high = np.minimum(sides, rows)
    wide = np.minimum(np.floor((capacity - high) / (high + 1.0)), columns)
    down, across = np.ceil(rows / high), np.ceil(columns / np.maximum(wide, 1.0))
    return np.where(wide >= 1.0, down, np.inf), np.where(wide >= 1.0, across, np.inf)
