"""What devices of a layer pass on to each other: tensor parallelism's collectives and context parallelism's.

Around a ring, keys and values go round in a forward pass (arXiv:2310.01889). In a backward pass they go round with
their gradients, or queries do with theirs and with the output's (arXiv:2403.09347): four widths of keys or three of
queries, of which there are as many where no heads share keys. Or ranks exchange their part of the sequence for some
heads of all of it: queries, keys and values before attention and its output behind it, and their gradients
(DeepSpeed-Ulysses, arXiv:2309.14509).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tierwise.core.num import Num, maximum, where
from tierwise.training.layout import Layout
from tierwise.training.recipe import Recipe, TrainingFramework
from tierwise.training.work import BodyRun, ModelWork

# (kind, bytes a device, group, stride) -> seconds
Exchange = Callable[[str, Num, Num, Num], Num]


def passed(work: ModelWork, x: Layout, recipe: Recipe) -> Num:
    """Bytes that a device sends for one layer in both passes of a micro-batch (mean over the layers)."""
    total: Num = 0.0
    for piece, n in work.layers:
        there, back = around(piece, recipe)
        ring = (x.cp - 1.0) * (there + back)
        heads = (x.cp - 1.0) / x.cp * 2.0 * sum(exchanged(piece))
        total = total + n / work.depth * (piece.sent + where(np.asarray(x.heads) > 0, heads, ring))
    return total


def around(piece: BodyRun, recipe: Recipe) -> tuple[Num, Num]:
    """Bytes of a rank's own part that go round the ring, in a forward and in a backward pass."""
    back = 3.0 * piece.queries + piece.sums if recipe.queries > 0 else 2.0 * piece.keys
    return piece.keys, back


def exchanged(piece: BodyRun) -> tuple[Num, Num]:
    """Bytes of a rank's own part that it exchanges for heads, before attention and behind it, of one pass."""
    return piece.queries + piece.keys, piece.queries


def around_attention(
    exchange: Exchange, x: Layout, how: TrainingFramework, piece: BodyRun, forward: dict[str, Num],
    behind: dict[str, Num],
) -> None:  # fmt: skip
    """Add to a layer's seconds what ranks of context parallelism wait for: of a ring what is longer than attention on
    what is already there; all of an exchange for heads, without which attention cannot begin, and which is made again
    where a whole layer is computed again."""
    there, back = around(piece, how.recipe)
    if np.all(np.asarray(x.cp) <= 1) or np.all(np.asarray(there) <= 0):
        return
    whole = np.asarray(x.heads) > 0
    more: Num = 0.0
    less: Num = 0.0
    if np.any(whole):
        once = sum((how.link * exchange("all_to_all", size, x.cp, x.tp) for size in exchanged(piece)), 0.0)
        more, less = once, once * where(np.asarray(x.recompute) >= 2, 2.0, 1.0)
    if not np.all(whole):
        ring = how.link * exchange("all_gather", there * x.cp, x.cp, x.tp)
        more = where(whole, more, maximum(ring - forward["attention"], 0.0))
        less = where(whole, less, maximum(back / maximum(there, 1.0) * ring - behind["attention"], 0.0))
    forward["link"] = forward["link"] + more
    behind["link"] = behind["link"] + less
