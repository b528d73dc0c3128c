"""One forward, one backward: a pipeline that holds no more activations than it has stages.

PipeDream-Flush, arXiv:2006.09503; Megatron-LM, arXiv:2104.04473, section 2.2.
"""

from __future__ import annotations

from tierwise.core.num import Num
from tierwise.program.program import Program
from tierwise.schedule._pipeline import alternating
from tierwise.schedule.types import Order


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
