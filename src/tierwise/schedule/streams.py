"""When things happen: ops in streams, and what overlaps what."""

from __future__ import annotations

from collections.abc import Sequence

from tierwise.core.num import Num, maximum
from tierwise.cost.types import Cost
from tierwise.program.types import Op


def chain(costs: Sequence[Cost]) -> Num:
    """Time of ops that wait for each other."""
    return sum((c.time for c in costs), 0.0)


def overlapped(ops: Sequence[Op], costs: Sequence[Cost], repeat: Num, behind: int) -> Num:
    """Time of a layer executed ``repeat`` times with communication on its own stream.

    Compute waits for the result of the collective ``behind`` collectives ago, not for the newest one: 0 is
    the plain order (nothing overlaps), 1 lets each collective run beside the block that follows it, as a
    residual stream rewired for it allows (Ladder Residual, arXiv:2501.06589).

    The steady state is the difference between three and two executions; the rest is start-up.
    """
    two, three = _makespan(ops, costs, 2, behind), _makespan(ops, costs, 3, behind)
    period = three - two
    return two + (repeat - 2.0) * period


def _makespan(ops: Sequence[Op], costs: Sequence[Cost], times: int, behind: int) -> Num:
    compute: Num = 0.0
    link: Num = 0.0
    pending: list[Num] = []
    for _ in range(times):
        for op, cost in zip(ops, costs, strict=True):
            if op.kind == "collective":
                link = maximum(link, compute) + cost.time
                pending.append(link)
                if len(pending) > behind:
                    compute = maximum(compute, pending.pop(0))
            else:
                compute = compute + cost.time
    return maximum(compute, link)


def events(order: Sequence[tuple[str, Sequence[Op], Sequence[Cost]]], behind: int | None) -> list[dict[str, object]]:
    """A timeline of one pass: every op with its start and duration, for scalar scenarios.

    Returns:
        Rows of name, layer, stream, start and duration in seconds, and the bound.
    """
    rows: list[dict[str, object]] = []
    compute = link = 0.0
    pending: list[float] = []
    for layer, ops, costs in order:
        for op, cost in zip(ops, costs, strict=True):
            time = float(cost.time)
            if op.kind == "collective":
                start = max(link, compute)
                link = start + time
                pending.append(link)
                if len(pending) > (behind or 0):
                    compute = max(compute, pending.pop(0))
                stream = "link"
            else:
                start, stream = compute, "compute"
                compute = start + time
            rows.append({"name": op.name, "layer": layer, "stream": stream, "start": start, "duration": time,
                         "bound_by": str(cost.bound_by), "role": op.role})  # fmt: skip
    return rows
