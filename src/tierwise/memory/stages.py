"""Which layers lie on which pipeline stage, by the rule an engine splits them with.

Layers are of several kinds (dense, mixtures of experts, with a window), so stages of equally many layers hold unequal
bytes, and where their number does not divide, some stages hold one layer more. The fullest stage decides what fits.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tierwise.core.num import Num, scalar, where
from tierwise.models.types import Stack

# Which stages hold one layer more than the others where layers do not divide: those before the last (the last and,
# as long as there are others, the first hold a matrix of the vocabulary besides), the first ones, or the last ones.
RULES = ("middle", "first", "last")

# A value of every stage; each may be an array over configurations (a stage that one does not have counts as empty).
ByStage = list[Num]
Table = NDArray[np.float64]


def split(depth: int, stages: int, rule: str = "middle") -> NDArray[np.intp]:
    """Layers of each stage (stages,)."""
    out = np.full(stages, depth // stages, dtype=np.intp)
    rest = depth % stages
    if rest:
        first = {"middle": stages - 1 - rest, "first": 0, "last": stages - rest}[rule]
        out[first : first + rest] += 1
    return out


def layers(stack: Stack, pp: Num, rule: str = "middle") -> list[ByStage]:
    """Layers of each kind on each stage, in the order of ``stack.kinds``.

    Layers of text are dealt to the stages. A tower that reads images stands on the first one, modules that draft
    tokens on the last.
    """
    degrees, index = np.unique(np.asarray(pp, dtype=np.intp), return_inverse=True)
    most, kinds = int(degrees[-1]), len(stack.kinds)
    table = np.stack([_table(stack.pattern, kinds, int(p), most, _place(stack), rule) for p in degrees], axis=-1)
    return [[scalar(table[kind, stage][index.reshape(np.shape(pp))]) for stage in range(most)] for kind in range(kinds)]


def ends(pp: Num) -> tuple[ByStage, ByStage]:
    """Whether a stage is the first, and whether it is the last: 0 or 1."""
    stages = range(int(np.max(pp)))
    return [float(i == 0) for i in stages], [where(np.asarray(pp) == i + 1, 1.0, 0.0) for i in stages]


def fullest(values: ByStage, each: ByStage | None = None, times: Num = 0.0) -> Any:
    """Number of the stage with most, (...): of what is there once, and so many times ``each``."""
    more = [0.0] * len(values) if each is None else each
    if len(values) == 1:
        return np.broadcast_to(np.intp(0), np.broadcast_shapes(*map(np.shape, (values[0], more[0], times))))
    held = [x + one * times for x, one in zip(values, more, strict=True)]
    return np.argmax(np.stack(np.broadcast_arrays(*held)), axis=0)


def pick(values: ByStage, stage: Any) -> Num:
    """The value of one stage, whose number may be an array."""
    if len(values) == 1:
        return values[0]
    rows = np.stack(np.broadcast_arrays(*values, np.asarray(stage, dtype=float))[:-1])
    at = np.broadcast_to(stage, rows.shape[1:])
    return scalar(np.take_along_axis(rows, at[None], axis=0)[0])


def plus(a: ByStage, b: ByStage) -> ByStage:
    """Their sum, stage by stage."""
    return [x + y for x, y in zip(a, b, strict=True)]


def _place(stack: Stack) -> str:
    return "dealt" if stack.stream == "text" and stack.active else "last" if stack.stream == "text" else "first"


@lru_cache(maxsize=4096)
def _table(pattern: tuple[int, ...], kinds: int, stages: int, most: int, place: str, rule: str) -> Table:
    """Layers of each kind on each stage (kinds, most)."""
    out = np.zeros((kinds, most))
    if place == "dealt":
        stage = np.repeat(np.arange(stages), split(len(pattern), stages, rule))
    else:
        stage = np.full(len(pattern), 0 if place == "first" else stages - 1)
    np.add.at(out, (np.asarray(pattern, dtype=np.intp), stage), 1.0)
    return out
