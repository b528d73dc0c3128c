"""One forward, one backward, with several chunks of the model on each stage (Megatron-LM, arXiv:2104.04473, 2.2)."""

from __future__ import annotations

from tierwise.core.num import Num
from tierwise.program.program import Program
from tierwise.schedule._pipeline import alternating
from tierwise.schedule.types import Order


def order(
    program: Program | None = None, stages: int = 2, micro_batches: Num = 4.0, chunks: int = 2, links: bool = False
) -> Order:
    """Stage ``i`` is a lane; ops are ``forward c.i`` and ``backward c.i`` of its chunk ``c``.

    Args:
        program: with ops of those names, if they are to be priced; stages need none to be put in order.
        stages: devices in a row; the model goes through all of them ``chunks`` times.
        micro_batches: of a step, a multiple of ``stages``; may be an array of counts that fill the pipeline.
        chunks: parts of the model on each stage.
        links: also ``send c.i`` and ``return c.i``, what a stage hands to the next and back, in lanes of their own.
    """
    warm = [2 * (stages - 1 - i) + (chunks - 1) * stages for i in range(stages)]
    if chunks == 1:
        warm = [stages - 1 - i for i in range(stages)]
    return alternating(program, stages, chunks, 1 if chunks == 1 else stages, warm, micro_batches, links)
