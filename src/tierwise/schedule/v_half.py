"""Two parts of the model on each stage, in a V, and half of the activations (V-Half, arXiv:2405.15362).

Activations live for half as many passes as those of the first stage under one forward, one backward; the pipeline
waits somewhat more than half as long. On two stages that is no less than ZB-V holds, and is ZB-V.
"""

from __future__ import annotations

import numpy as np

from tierwise.core.num import Num, maximum, minimum, where
from tierwise.program.program import Program
from tierwise.schedule import zero_bubble_v
from tierwise.schedule._v_shape import fullest_first, laid
from tierwise.schedule.closed import Passes
from tierwise.schedule.types import Order

SHAPE = zero_bubble_v.SHAPE
_SLOPES = (2, 1, 2, 1)


def order(program: Program | None = None, stages: int = 3, micro_batches: Num = 6.0) -> Order:
    """The passes of :func:`tierwise.schedule._v_shape.laid`; micro-batches may be an array of counts that fill the
    pipeline."""
    if stages <= 2:
        return zero_bubble_v.order(program, stages, micro_batches)
    return laid(_SLOPES, program, stages, micro_batches)


def span(passes: Passes) -> Num:
    """A micro-batch follows the one before it after all passes of a stage, or, where the number of stages is even and
    turns are longer, after four of the longer passes and one of the shorter; filling and emptying takes what the slopes
    say."""
    p = passes
    forward, inputs, weights = (x[1] / SHAPE.parts for x in (p.forward, p.inputs, p.weights))
    even = np.mod(p.stages, 2.0) < 1
    period = where(even, maximum(forward + 4.0 * inputs, 4.0 * forward + inputs), 0.0)
    lost = (p.stages - 1.0) * (4.0 * forward + 7.0 * inputs - weights) / 3.0 + forward
    return where(np.asarray(p.stages) <= 2, zero_bubble_v.span(p), fullest_first(p, lost, period))


def held(stages: Num, parts: Num, micro_batches: Num, at: Num) -> Num:
    """Half as many as there are stages, and some for the turns, which are longer where their number is even."""
    half = (np.asarray(stages) + where(np.mod(stages, 2.0) < 1, 3.0, 1.0)) / 2.0
    return minimum(where(np.asarray(stages) <= 2, stages, half), micro_batches)
