"""How many copies of each tensor an order keeps, without any price."""

from __future__ import annotations

import numpy as np

from tierwise.core.num import Num, maximum, minimum, num, where
from tierwise.schedule.compiled import executions, lanes_of
from tierwise.schedule.types import Buffer, Order


def in_flight(order: Order) -> dict[str, Num]:
    """The most copies of each buffer that can be in flight at once.

    Where writer and reader share a lane its order says so. Where they do not, as many as the buffer has, and never more
    than are ever written.
    """
    lane_of, counts = lanes_of(order), executions(order)
    out: dict[str, Num] = {}
    for b in order.buffers:
        if lane_of[b.writer] == lane_of[b.reader] >= 0:
            out[b.name] = _in_lane(order, b, order.lanes[lane_of[b.writer]])
        else:
            out[b.name] = counts[b.writer] if b.copies is None else minimum(float(b.copies), counts[b.writer])
    return out


def _in_lane(order: Order, buffer: Buffer, lane: str) -> Num:
    """Writes less reads, at their highest along the lane; a copy is free when its reader has run."""
    level: Num = 0.0
    most: Num = 0.0
    for section in order.sections:
        change = peak = 0.0
        for issue in section.lanes.get(lane, ()):
            if issue.op == buffer.writer:
                change += 1.0
                peak = max(peak, change)
            if issue.op == buffer.reader:
                change -= 1.0
        turns = section.turns
        top = level + maximum(turns - 1.0, 0.0) * max(change, 0.0) + peak
        most = where(np.asarray(turns) > 0, maximum(most, top), most)
        level = level + turns * change
    return num(most)
