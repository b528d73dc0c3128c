"""How sure the time of an order is, given how sure the times of its ops are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tierwise.core.num import Num, maximum, minimum, num
from tierwise.schedule.play import play
from tierwise.schedule.types import Demand, Order, Timeline


def interval(order: Order, demands: Sequence[Demand], timeline: Timeline) -> tuple[Num, Num]:
    """Ends that 80 % of times lie between, seconds.

    Errors are factors on durations, shared by all ops of a group and independent between groups. Each group is moved
    to its low and to its high end, the others staying where they are, and played again; what that does to the
    logarithm of the time is combined as the root of the sum of squares. The time itself always lies between the ends.
    """
    low: Num = 0.0
    high: Num = 0.0
    for group in dict.fromkeys(d.group for d in demands):
        for end in (0, 1):
            if all(np.all(np.asarray(d.interval[end]) == 1.0) for d in demands if d.group == group):
                continue
            moved = [replace(d, duration=d.duration * d.interval[end]) if d.group == group else d for d in demands]
            change = _change(play(order, moved, exposed=False).time, timeline.time)
            low, high = low + minimum(change, 0.0) ** 2, high + maximum(change, 0.0) ** 2
    return (minimum(timeline.time, num(timeline.time * np.exp(-np.sqrt(low)))),
            maximum(timeline.time, num(timeline.time * np.exp(np.sqrt(high)))))  # fmt: skip


def _change(moved: Num, time: Num) -> Num:
    """Of the logarithm; none where there is nothing to change (no time, or no end of it)."""
    fine = (np.asarray(time) > 0) & np.isfinite(time) & (np.asarray(moved) > 0)
    return num(np.log(np.where(fine, moved, 1.0) / np.where(fine, time, 1.0)))
