"""A timeline as rows, for pictures and trace viewers."""

from __future__ import annotations

from tierwise.schedule.types import Order, Timeline


def rows(order: Order, timeline: Timeline) -> list[dict[str, object]]:
    """Every execution, by its start: lane, name and number of the op, turn, start and duration in seconds.

    The timeline must have been played with ``events=True``. Turns count from the first of each op.
    """
    first: dict[int, int] = {}
    for e in timeline.events:
        first[e.op] = min(e.turn, first.get(e.op, e.turn))
    return [
        {"lane": e.lane, "op": e.op, "name": order.ops[e.op], "turn": e.turn - first[e.op], "start": e.start,
         "duration": e.end - e.start}
        for e in sorted(timeline.events, key=lambda e: (e.start, order.lanes.index(e.lane)))
    ]  # fmt: skip
