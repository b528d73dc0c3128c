"""Two parts of the model on each stage, in a V, with every pass at its own time (arXiv:2405.15362, section 4).

Every micro-batch follows the one before it six passes later (forward, gradients of inputs and of weights, of two
parts). Slopes say how many passes later the next stage works: the gentler they are, the shorter activations live, and
the fewer of them a stage holds. Passes of different micro-batches must never meet on a stage.
"""

from __future__ import annotations

from functools import cache
from itertools import product

from tierwise.core.num import Num, maximum
from tierwise.program.program import Program
from tierwise.schedule._fold import Task, folded, split
from tierwise.schedule.closed import Passes
from tierwise.schedule.types import Order

# Passes of a micro-batch through one stage: into the model and out of it, each forward, backward and for weights.
PASSES = 6

# Passes from one stage to the next: forward on the way in and on the way back, gradients of inputs on the way in (from
# where the model ends) and on the way back.
Slopes = tuple[int, int, int, int]
# (what, part of the model)
_Pass = tuple[str, int]


def laid(slopes: Slopes, program: Program | None, stages: int, micro_batches: Num) -> Order:
    """Stage ``i`` is a lane; ops are ``forward c.i``, ``backward c.i`` (gradients of inputs) and ``weights c.i`` of
    its part ``c``: part 0 is the stage's on the way in, part 1 on the way back.

    Args:
        micro_batches: of a step; may be an array of counts that fill the pipeline (at least ``4 * stages + 4``).
    """

    def name(what: str, j: int) -> str:
        return f"{what} 0.{j}" if j < stages else f"{what} 1.{2 * stages - 1 - j}"

    def rows(count: int) -> list[list[Task]]:
        timed = (sorted((t + PASSES * k, op, k) for op, t in due.items() for k in range(count)) for due in planned)
        return [[(name(*op), k) for _, op, k in row] for row in timed]

    planned = _planned(slopes, stages)
    waits, kept = split(range(2 * stages), name)
    return folded(program, rows, lambda _: waits, lambda _: 1, micro_batches, 4 * stages + 4, kept)


@cache
def _planned(slopes: Slopes, stages: int) -> tuple[dict[_Pass, int], ...]:
    """When each stage does each pass of the first micro-batch: the shortest turns between the ways with which no two
    passes meet; gradients of weights where there is room behind those of inputs."""
    for turns in sorted(product(range(1, PASSES + 1), repeat=3), key=lambda t: (sum(t), t)):
        found = [_due(slopes, turns, stages, i) for i in range(stages)]
        if all(len({t % PASSES for t in due.values()}) == len(due) for due in found):
            break
    for due in found:
        taken = {t % PASSES for t in due.values()}
        for _, j in sorted((op for op in due if op[0] == "backward"), key=lambda op, due=due: due[op]):  # type: ignore[misc]
            t = next(t for t in range(due["backward", j] + 1, due["backward", j] + PASSES) if t % PASSES not in taken)
            taken.add(t % PASSES)
            due["weights", j] = t
    return tuple(found)


def _due(slopes: Slopes, turns: tuple[int, ...], stages: int, i: int) -> dict[_Pass, int]:
    far, near, back = stages - 1, i, 2 * stages - 1 - i
    a, b, c, d = slopes
    turned = a * far + turns[0]
    behind = turned + b * far + turns[1]
    out = behind + c * far + turns[2]
    return {
        ("forward", near): a * i,
        ("forward", back): turned + b * (far - i),
        ("backward", back): behind + c * i,
        ("backward", near): out + d * (far - i),
    }


def fullest_first(passes: Passes, lost: Num, period: Num = 0.0) -> Num:
    """Seconds of all micro-batches, each of which takes a stage's work or a ``period`` of waits, and of filling and
    emptying the pipeline (``lost``).

    A first stage that has more to do than others (both ends of the model lie there) waits less: what it does more of a
    micro-batch, others wait for on each of the ``2 * stages`` parts.
    """
    p = passes
    first, middle, _ = p.totals
    more = maximum(first - middle, 0.0)
    each = maximum(middle, period)
    slow = p.micro_batches * maximum(middle + more, period) + maximum(lost - 2.0 * p.stages * more, 0.0)
    return maximum(p.micro_batches * each + lost, slow)
