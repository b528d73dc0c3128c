"""All forwards of a pipeline, then all backwards (GPipe, arXiv:1811.06965)."""

from __future__ import annotations

from tierwise.core.num import Num
from tierwise.program.program import Program
from tierwise.schedule._pipeline import one_way
from tierwise.schedule.types import Order


def order(program: Program | None = None, stages: int = 2, micro_batches: Num = 4.0, links: bool = False) -> Order:
    """Stage ``i`` is a lane; ops are ``forward i`` and ``backward i``, one execution a micro-batch.

    Args:
        program: with ops of those names, if they are to be priced; stages need none to be put in order.
        stages: devices in a row.
        micro_batches: of a step; may be an array.
        links: also ``send i`` and ``return i``, what a stage hands to the next and back, in lanes of their own.
    """
    return one_way(program, stages, micro_batches, links)
