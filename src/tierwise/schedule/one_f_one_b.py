"""One forward, one backward: a pipeline that holds no more activations than it has stages.

PipeDream-Flush, arXiv:2006.09503; Megatron-LM, arXiv:2104.04473, section 2.2.
"""

from __future__ import annotations

import numpy as np

from tierwise.core.num import Num, maximum, minimum, where
from tierwise.program.program import Program
from tierwise.schedule._pipeline import alternating
from tierwise.schedule.closed import Passes, Shape
from tierwise.schedule.types import Order

SHAPE = Shape()


def order(program: Program | None = None, stages: int = 2, micro_batches: Num = 4.0, links: bool = False) -> Order:
    """Stage ``i`` is a lane; ops are ``forward i`` and ``backward i``, one execution a micro-batch.

    Args:
        program: with ops of those names, if they are to be priced; stages need none to be put in order.
        stages: devices in a row.
        micro_batches: of a step; may be an array of counts that fill the pipeline (at least ``stages - 1``).
        links: also ``send i`` and ``return i``, what a stage hands to the next and back, in lanes of their own.
    """
    warm = [stages - 1 - i for i in range(stages)]
    return alternating(program, stages, 1, 1, warm, micro_batches, links)


def span(passes: Passes) -> Num:
    """Every micro-batch on the slowest stage, and one on each of the others; their parts overlap (section 2.2)."""
    p = passes
    return p.micro_batches * p.slowest + (p.over(p.totals) - p.slowest) / p.parts


def held(stages: Num, parts: Num, micro_batches: Num, at: Num) -> Num:
    """As many as there are stages to come; of parts, what fills the pipeline (arXiv:2205.05198, section 4.2.3)."""
    some = stages * parts + stages - 1.0 - 2.0 * (stages - 1.0) * at
    chunks = where(np.asarray(parts) > 1, some, stages - (stages - 1.0) * at)
    return minimum(maximum(chunks, 1.0) / parts, micro_batches)
