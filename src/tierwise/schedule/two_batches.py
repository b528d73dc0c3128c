"""Two micro-batches on one device: one computes while the other communicates or reads its cache.

NanoFlow (arXiv:2408.12757) and DeepSeek-V3 (arXiv:2412.19437, section 3.4) interleave batches this way. What runs side
by side shares the streaming multiprocessors and the memory: that is left to the draws of the demands.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from tierwise.program.edges import stretches
from tierwise.program.program import Program
from tierwise.program.types import Op
from tierwise.schedule._order_builder import OrderBuilder, dependencies
from tierwise.schedule.types import Order, OrderEdge

BATCHES = ("first", "second")
# Equal parts of a batch, one of which the program is.
PARTS = len(BATCHES)


def order(program: Program, beside: Sequence[str] = ("attention",)) -> Order:
    """Runs of ops of one lane alternate between the batches: first, second, first, ...

    Args:
        program: of one micro-batch (half of the batch).
        beside: kinds of op bound by memory, which get a lane of their own beside compute. Collectives have one as well.
    """
    building = OrderBuilder(("compute", "memory", "link"))
    number: dict[tuple[int, int], int] = {}  # (batch, op of the program): op of the order
    base = 0

    def lane_of(op: Op) -> str:
        return "link" if op.kind == "collective" else "memory" if op.kind in beside else "compute"

    for stretch in stretches(program):
        building.section(stretch.turns)
        for lane, run in groupby(enumerate(stretch.ops, start=base), key=lambda x: lane_of(x[1].op)):
            ops = list(run)
            for batch, name in enumerate(BATCHES):
                for i, p in ops:
                    number[batch, i] = building.add(lane, f"{name} {p.name}", p.op)
        base += len(stretch.ops)
    for e in dependencies(program):
        for batch in range(len(BATCHES)):
            building.edges.append(OrderEdge(number[batch, e.of], number[batch, e.to], e.distance, e.before))
    return building.order()
