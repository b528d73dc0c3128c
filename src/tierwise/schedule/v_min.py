"""Two parts of the model on each stage, in a V, and a third of the activations (V-Min, arXiv:2405.15362).

Each stage works one pass after the one before it, both ways. Where passes are not equally long, every micro-batch waits
for the longest of them six times. On two stages that is no less than ZB-V holds, and is ZB-V.
"""

from __future__ import annotations

import numpy as np

from tierwise.core.num import Num, maximum, minimum, where
from tierwise.program.program import Program
from tierwise.schedule import zero_bubble_v
from tierwise.schedule._v_shape import PASSES, fullest_first, laid
from tierwise.schedule.closed import Passes
from tierwise.schedule.types import Order

SHAPE = zero_bubble_v.SHAPE
_SLOPES = (1, 1, 1, 1)


def order(program: Program | None = None, stages: int = 3, micro_batches: Num = 6.0) -> Order:
    """The passes of :func:`tierwise.schedule._v_shape.laid`; micro-batches may be an array of counts that fill the
    pipeline."""
    if stages <= 2:
        return zero_bubble_v.order(program, stages, micro_batches)
    return laid(_SLOPES, program, stages, micro_batches)


def span(passes: Passes) -> Num:
    """A micro-batch follows the one before it after all passes of a stage, or six times the longest of those that
    others wait for; filling and emptying takes what the slopes and the turns
    say."""
    p = passes
    forward, inputs = (x[1] / SHAPE.parts for x in (p.forward, p.inputs))
    turns = where(np.mod(p.stages, 3.0) < 1, 1.0, -1.0)
    lost = (p.stages - 1.0) * (8.0 * forward + 4.0 * inputs) / 3.0 + turns * forward
    made = fullest_first(p, lost, PASSES * maximum(forward, inputs))
    return where(np.asarray(p.stages) <= 2, zero_bubble_v.span(p), made)


def held(stages: Num, parts: Num, micro_batches: Num, at: Num) -> Num:
    """A third as many as there are stages, and one for the turns."""
    third = np.floor((np.asarray(stages) + 4.0) / 3.0)
    return minimum(where(np.asarray(stages) <= 2, stages, third), micro_batches)
