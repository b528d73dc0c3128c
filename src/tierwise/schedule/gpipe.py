"""All forwards of a pipeline, then all backwards (GPipe, arXiv:1811.06965)."""

from __future__ import annotations

from tierwise.core.num import Num
from tierwise.program.program import Program
from tierwise.schedule._pipeline import one_way
from tierwise.schedule.closed import Passes, Shape, largest
from tierwise.schedule.types import Order

SHAPE = Shape(parts=1.0)


def order(program: Program | None = None, stages: int = 2, micro_batches: Num = 4.0, links: bool = False) -> Order:
    """Stage ``i`` is a lane; ops are ``forward i`` and ``backward i``, one execution a micro-batch.

    Args:
        program: with ops of those names, if they are to be priced; stages need none to be put in order.
        stages: devices in a row.
        micro_batches: of a step; may be an array.
        links: also ``send i`` and ``return i``, what a stage hands to the next and back, in lanes of their own.
    """
    return one_way(program, stages, micro_batches, links)


def span(passes: Passes) -> Num:
    """One way and then the other, each as fast as its slowest stage."""
    p, total = passes, 0.0 * passes.micro_batches
    back = tuple(a + b for a, b in zip(p.inputs, p.weights, strict=True))
    for way in (p.forward, (back[0], back[1], back[2])):
        total = total + p.over(way) + (p.micro_batches - 1.0) * largest(p.stages, way)
    return total


def held(stages: Num, parts: Num, micro_batches: Num, at: Num) -> Num:
    """All of them."""
    return micro_batches
