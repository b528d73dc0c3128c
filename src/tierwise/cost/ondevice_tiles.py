"""What tiles of block-quantized products read beside their weights once.

A product's results are cut into tiles of so many rows and columns [ondevice.tile]. Every tile reads the weights of its
columns, so these are read again for each tile of rows, from memory where the cache has let go of them meanwhile. With
the depth cut too (stream-k), each unit walks along the rows of its own columns; else all columns of the first rows come
before the next rows, and the whole matrix lies in between.
"""

from __future__ import annotations

import numpy as np

from tierwise.core.num import Num, maximum, minimum, where
from tierwise.cost.constants import constant
from tierwise.cost.types import Target
from tierwise.program.types import Op

# Rows and columns of a tile of a product's results.
TILE = constant("ondevice.tile")
# Bytes of an input of integer products: blocks of 32 with a scale of 4 bytes (q8_1).
_Q8_1 = 1.125


def expert_work(op: Op) -> tuple[Num, Num]:
    """(rows of a touched expert, weights of all touched ones)."""
    d = op.dims
    touched = maximum(d["touched"], 1e-9)
    return d["tokens"] / touched, (d["up"] + 1.0) * d["inner"] * d["hidden"] * touched


def shapes(op: Op) -> tuple[Num, Num, Num, Num, Num]:
    """(rows, columns, depth, matrices side by side in one kernel, kernels) of a product: several products of one input,
    and the matrices of an expert, are kernels of their own; all experts share one."""
    d = op.dims
    if op.kind == "moe":
        kernels = d["up"] + 1.0
        columns = (d["up"] * d["inner"] + d["hidden"]) / kernels
        rows, elements = expert_work(op)
        return rows, columns, elements / (kernels * columns * maximum(d["touched"], 1e-9)), d["touched"], kernels
    kernels = float(str(op.options.get("parts", 1)))
    return d["m"], d["n"] / kernels, d["k"], d.get("batch", 1.0), kernels


def tiled(op: Op, on: Target) -> Num:
    """Tiles that all units work on at once, over the columns of tiles that one kernel of a product has."""
    _, columns, _, side, _ = shapes(op)
    return on.rate("fp32", "vector")[1].units * TILE / maximum(columns * side, 1.0)


def read_again(op: Op, on: Target, streamed: bool) -> Num:
    """Bytes of weights that tiles read from memory once more than each weight is.

    Args:
        streamed: units walk along the rows of their own columns; else all columns come before the next rows.
    """
    rows, columns, depth, side, kernels = shapes(op)
    units = on.rate("fp32", "vector")[1].units
    weights = op.bytes_of("weight")
    one = weights / kernels
    tiles = maximum(np.ceil(np.asarray(rows) / TILE), 1.0)
    if streamed:
        # Units beyond the columns of tiles share these, and go through fewer rows each, at the same time.
        share = minimum(columns * side / (TILE * units), 1.0)
        tiles = maximum(tiles * share, 1.0)
        between = one / maximum(columns * side / (TILE * units), 1.0) + rows * depth * side * _Q8_1
    else:
        between = one / maximum(side, 1e-9)
    return where(np.asarray(between) <= np.asarray(on.cache_capacity), 0.0 * weights, weights * (tiles - 1.0))


__all__ = ["TILE", "expert_work", "read_again", "shapes", "tiled"]
