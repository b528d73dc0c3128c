"""Two parts of the model on each stage, in a V, and no bubble (ZB-V, arXiv:2401.10241, section 6; arXiv:2405.15362).

The model goes through the stages and back, so that its first and its last part lie on one device, and a micro-batch
turns round without a hand-over. Gradients of weights fill what gaps there are. A stage holds as many micro-batches as
the first one does under one forward, one backward.
"""

from __future__ import annotations

import numpy as np

from tierwise.core.num import Num, maximum, minimum, where
from tierwise.program.program import Program
from tierwise.schedule._fold import Task, folded, split
from tierwise.schedule._v_shape import PASSES, fullest_first
from tierwise.schedule.closed import Passes, Shape
from tierwise.schedule.types import Order

SHAPE = Shape(parts=2.0, ends=((1.0, 1.0), (0.0, 0.0)), holds=((1.0, 1.0), (0.0, 0.0)), least=2.0)


def order(program: Program | None = None, stages: int = 2, micro_batches: Num = 4.0) -> Order:
    """Stage ``i`` is a lane; ops are ``forward c.i``, ``backward c.i`` (gradients of inputs) and ``weights c.i`` of
    its part ``c``: part 0 is the stage's on the way in, part 1 on the way back.

    Args:
        program: with ops of those names, if they are to be priced; stages need none to be put in order.
        stages: devices in a row.
        micro_batches: of a step; may be an array of counts that fill the pipeline (at least ``4 * stages + 4``).
    """

    def name(what: str, j: int) -> str:
        return f"{what} 0.{j}" if j < stages else f"{what} 1.{2 * stages - 1 - j}"

    def rows(count: int) -> list[list[Task]]:
        return [[(name(what, j), k) for what, j, k in row] for row in _planned(stages, count)]

    waits, kept = split(range(2 * stages), name)
    return folded(program, rows, lambda _: waits, lambda _: 1, micro_batches, 4 * stages + 4, kept)


def _planned(stages: int, count: int) -> list[list[tuple[str, int, int]]]:
    """What each stage does (what, part of the model, micro-batch), planned unit by unit with equal passes.

    Every micro-batch follows the one before it six units later, on a path of one unit a stage inwards and five units
    outwards, so that passes of different micro-batches never meet on a stage. What is ready is done in the order of
    that plan; stage ``i`` keeps gradients of weights of its last ``i`` micro-batches for when it would wait.
    """
    parts, far = 2 * stages, stages - 1
    done = {(what, j): 0 for j in range(parts) for what in ("forward", "backward", "weights")}
    due = [_due(stages, i) for i in range(stages)]
    out: list[list[tuple[str, int, int]]] = [[] for _ in range(stages)]
    left = 3 * parts * count
    while left:
        before = dict(done)

        def ready(what: str, j: int, k: int, before: dict[tuple[str, int], int] = before) -> bool:
            if what == "weights":
                return before["backward", j] > k
            if what == "backward":
                return (before["backward", j + 1] if j + 1 < parts else before["forward", j]) > k
            mirror = parts - 1 - j
            held = sum(before["forward", x] - before["weights", x] for x in (j, mirror))
            # Room is left for the way out, or nothing would ever be freed.
            return (j == 0 or before["forward", j - 1] > k) and held < parts - (j <= far)

        for i in range(stages):
            best: tuple[int, str, int, int] | None = None
            for (what, j), at in due[i].items():
                k = before[what, j]
                if k < count and ready(what, j, k):
                    late = what == "weights" and k >= count - i
                    when = at + PASSES * (k + late * 2 * count)
                    if best is None or when < best[0]:
                        best = (when, what, j, k)
            if best is not None:
                out[i].append(best[1:])
                done[best[1], best[2]] += 1
                left -= 1
    return out


def _due(stages: int, i: int) -> dict[tuple[str, int], int]:
    """When stage ``i`` would do each pass of the first micro-batch, by (what, part of the model)."""
    far, outwards = stages - 1, (PASSES - 1) * (stages - 1 - i)
    near, back = i, 2 * stages - 1 - i
    turned = (PASSES - 1) * far + far + 2
    due = {
        ("forward", near): i,
        ("forward", back): far + 1 + outwards,
        ("backward", back): turned + i,
        ("backward", near): turned + far + 1 + outwards,
    }
    return due | {("weights", j): due["backward", j] + 2 for j in (back, near)}


def span(passes: Passes) -> Num:
    """Every micro-batch on a stage, and what it waits for the others as the pipeline fills and empties.

    With equal stages that is half of a pass for each of the others: of the longest of the three, or, where gradients of
    weights are too short to fill the gaps, of what they leave.
    """
    p = passes
    forward, inputs, weights = (x[1] for x in (p.forward, p.inputs, p.weights))
    gap = 2.0 * inputs - where(np.asarray(p.stages) > 2, 1.5, 1.0) * weights
    lost = (p.stages - 1.0) / 2.0 * maximum(maximum(forward, inputs), gap)
    return fullest_first(p, lost)


def held(stages: Num, parts: Num, micro_batches: Num, at: Num) -> Num:
    """As many as there are stages, on every stage: half of the layers twice as many times."""
    return minimum(stages, micro_batches)
