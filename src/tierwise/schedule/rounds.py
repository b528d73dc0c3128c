"""Micro-batches that go round the stages of a pipeline, each again as soon as it is back: how engines decode."""

from __future__ import annotations

from tierwise.core.num import Num
from tierwise.program.program import Program
from tierwise.schedule.types import Issue, Order, OrderEdge, Section


def order(program: Program | None = None, stages: int = 2, micro_batches: int = 0, rounds: Num = 8.0) -> Order:
    """Stage ``i`` is a lane; each micro-batch passes all of them in turn, and begins anew when its token is there.

    Args:
        program: stages need none to be put in order.
        stages: devices in a row. ``micro_batches``: in flight; as many as stages unless given.
        rounds: passes of each micro-batch.
    """
    flying = micro_batches or stages
    names = tuple(f"stage {i}" for i in range(stages))
    onward = tuple(OrderEdge(i, i + 1) for i in range(stages - 1))
    row = {name: (Issue(i),) for i, name in enumerate(names)}
    return Order(names, names, (Section(row, rounds * flying, 1),), (*onward, OrderEdge(stages - 1, 0, flying)), (),
                 (None,) * stages)  # fmt: skip
