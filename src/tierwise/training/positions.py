"""Which kinds of layers lie on which stage of a pipeline.

Layers of a model may differ: the first of some mixtures of experts are dense, so that only the first stage has them
and all others take longer than the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tierwise.core.num import Num, greatest, maximum, where
from tierwise.program.program import Program, Repeat
from tierwise.training.layout import Layout, held, of_schedule


@dataclass(frozen=True)
class KindsOnStages:
    """How many layers of one kind there are.

    Attributes:
        each: of a middle stage's layers, the share that are of the kind.
        first, last: of the kind on the first and on the last stage, beyond that share of their layers.
    """

    each: Num
    first: Num
    last: Num


def pattern_of(program: Program, names: Sequence[str]) -> tuple[int, ...]:
    """The kinds of a program's layers in the order they are executed, as indexes into ``names``."""
    index = {name: i for i, name in enumerate(names)}
    bodies = [item.bodies[i].name for item in program.items if isinstance(item, Repeat) for i in item.pattern]
    return tuple(index[name] for name in bodies if name in index)


def kinds_on_stages(layout: Layout, pattern: Sequence[int], counts: Sequence[Num]) -> tuple[KindsOnStages, ...]:
    """Each kind's place on the stages; the mean everywhere where kinds are alike, or where a schedule folds the model
    or divides its ends.

    Args:
        pattern: kinds of the layers in order. ``counts``: how many there are of each.
    """
    x, depth = layout, sum(counts, 0.0)
    mean = tuple(KindsOnStages(n / depth, 0.0, 0.0) for n in counts)
    if len(counts) < 2 or len(pattern) != depth or np.all(np.asarray(x.pp) <= 1):
        return mean
    first, _, last = held(x, depth)
    folded = (of_schedule(x, lambda c: c.shape.parts) > 0) | (of_schedule(x, lambda c: c.shape.copies) > 1)
    plain = (np.asarray(x.pp) > 1) & ~np.asarray(folded) & (np.asarray(x.vocabulary) <= 0)
    parts, period = np.asarray(x.interleave), depth / np.asarray(x.interleave)
    middle = maximum(depth - first - last, 0.0)
    out = []
    for kind, same in enumerate(mean):
        before = np.concatenate([[0.0], np.cumsum(np.asarray(pattern) == kind)])
        own, other = _between(before, 0.0, first / parts, period, parts), _between(
            before, period - last / parts, period, period, parts)  # fmt: skip
        each = where(middle > 0, (counts[kind] - own - other) / maximum(middle, 1.0), same.each)
        each = where(plain, each, same.each)
        out.append(KindsOnStages(each, where(plain, own - first * each, 0.0), where(plain, other - last * each, 0.0)))
    return tuple(out)


def _between(before: NDArray[np.float64], start: Num, end: Num, period: Num, parts: Num) -> Num:
    """Layers of a kind between two places of each part of the model.

    Args:
        before: how many come before each layer.
    """
    at = np.arange(len(before))
    total: Num = 0.0
    for part in range(int(greatest(parts))):
        inside = np.interp(part * period + end, at, before) - np.interp(part * period + start, at, before)
        total = total + where(np.asarray(parts) > part, inside, 0.0)
    return total
