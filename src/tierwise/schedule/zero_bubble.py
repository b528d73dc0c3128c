"""One forward, one backward, with gradients of weights put where a stage would wait (ZB-H1, arXiv:2401.10241, 4.1).

Gradients of inputs, which the stage before waits for, come first; those of weights wait for a gap. A stage holds no
more micro-batches than the first one does under one forward, one backward.
"""

from __future__ import annotations

import numpy as np

from tierwise.core.num import Num, maximum, minimum, where
from tierwise.program.program import Program
from tierwise.schedule._fold import Task, folded, split
from tierwise.schedule.closed import Passes, Shape
from tierwise.schedule.types import Order

SHAPE = Shape(parts=1.0)


def order(program: Program | None = None, stages: int = 2, micro_batches: Num = 4.0) -> Order:
    """Stage ``i`` is a lane; ops are ``forward i``, ``backward i`` (gradients of inputs) and ``weights i``.

    Args:
        program: with ops of those names, if they are to be priced; stages need none to be put in order.
        stages: devices in a row.
        micro_batches: of a step; may be an array of counts that fill the pipeline (at least ``3 * stages``).
    """

    def rows(count: int) -> list[list[Task]]:
        out = []
        for i in range(stages):
            warm = stages - 1 - i
            row: list[Task] = [(f"forward {i}", k) for k in range(min(warm, count))]
            for k in range(count):
                row += [(f"forward {i}", warm + k)] * (warm + k < count) + [(f"backward {i}", k)]
                # Stage i, which waits for i hand-overs at the end, keeps the gradients of i micro-batches for then.
                row += [(f"weights {i}", k - i)] * (k >= i)
            out.append([*row, *((f"weights {i}", k) for k in range(max(count - i, 0), count))])
        return out

    waits, kept = split(range(stages), lambda what, j: f"{what} {j}")
    return folded(program, rows, lambda _: waits, lambda _: 1, micro_batches, 3 * stages + 3, kept)


def span(passes: Passes) -> Num:
    """The longest of the ways through the pipeline, each of which runs all micro-batches through one stage.

    A stage begins when the first micro-batch reaches it; with equal stages all that is lost is
    ``(stages - 1) (forward + inputs - weights)`` (section 4.1).
    """
    p, n = passes, np.asarray(passes.stages)
    way: Num = 0.0
    forward, total = p.forward, p.totals
    both = tuple(f + b for f, b in zip(forward, p.inputs, strict=True))
    for i, k in ((0.0, 0), (1.0, 1), (p.stages - 2.0, 1), (p.stages - 1.0, 2)):
        there = where((n > 2) | (k != 1), 1.0, 0.0)
        before, entered = (x[0] * minimum(i, 1.0) + maximum(i - 1.0, 0.0) * x[1] for x in (both, forward))
        after = p.over((both[0], both[1], both[2])) - before - both[k]
        waits = maximum(after - (p.stages - 1.0 - i) * forward[k], 0.0)
        through = before + waits + p.micro_batches * total[k] - (i + 1.0) * p.weights[k] + p.weights[0]
        way = maximum(way, there * maximum(through, entered + p.micro_batches * total[k]))
    return way


def held(stages: Num, parts: Num, micro_batches: Num, at: Num) -> Num:
    """No more than the first stage under one forward, one backward, on every stage."""
    return minimum(stages, micro_batches)
