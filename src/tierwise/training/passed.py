"""What devices of a layer pass on to each other: tensor parallelism's collectives and context parallelism's ring.

In a forward pass keys and values go round (arXiv:2310.01889). In a backward pass they go round with their gradients, or
queries do with theirs and with the output's (arXiv:2403.09347): four widths of keys or three of queries, of which there
are as many where no heads share keys.
"""

from __future__ import annotations

from tierwise.core.num import Num
from tierwise.training.layout import Layout
from tierwise.training.recipe import Recipe
from tierwise.training.work import BodyRun, ModelWork


def passed(work: ModelWork, x: Layout, recipe: Recipe) -> Num:
    """Bytes that a device sends for one layer in both passes of a micro-batch (mean over the layers)."""
    total: Num = 0.0
    for piece, n in work.layers:
        there, back = around(piece, recipe)
        total = total + n / work.depth * (piece.sent + (x.cp - 1.0) * (there + back))
    return total


def around(piece: BodyRun, recipe: Recipe) -> tuple[Num, Num]:
    """Bytes of a rank's own part that go round the ring, in a forward and in a backward pass."""
    back = 3.0 * piece.queries + piece.sums if recipe.queries > 0 else 2.0 * piece.keys
    return piece.keys, back
