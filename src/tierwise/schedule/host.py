"""A host that starts kernels one by one, and a device that works them off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tierwise.core.num import Num, minimum, where
from tierwise.cost.types import Cost

LAUNCH = "launch"


def paced(costs: Sequence[Cost], repeats: Sequence[Num], spread: tuple[float, float] | None = None) -> list[Cost]:
    """The costs of a pass's ops when launches queue up on the device.

    Args:
        costs: each with the host's seconds as ``launch`` among what overlaps (none: nothing to start).
        repeats: executions of each.
        spread: factors on the host's time that 80 % of hosts lie between; the ops' own intervals unless given.

    The host does not wait for a kernel to end, so its time and the device's run side by side until the end of the
    pass, where the result is waited for: the slower of the two sets the pace of all ops. Where it is the host, an op
    takes as long as its launch, and the device idles in between.
    """
    host: Num = 0.0
    device: Num = 0.0
    for cost, times in zip(costs, repeats, strict=True):
        host = host + times * cost.overlapped.get(LAUNCH, 0.0)
        device = device + times * (working(cost) + sum(cost.serial.values(), 0.0))
    slow = np.asarray(host) > np.asarray(device)
    return [_paced(cost, slow, spread or cost.interval) for cost in costs]


def _paced(cost: Cost, slow: object, spread: tuple[Num, Num]) -> Cost:
    launch = cost.overlapped.get(LAUNCH, 0.0)
    # The launch comes first: of equal parts the first names the bound.
    overlapped: dict[str, Num] = {LAUNCH: where(slow, launch, 0.0)}
    for name, t in cost.overlapped.items():
        if name != LAUNCH:
            overlapped[name] = where(slow, minimum(t, launch), t)
    serial = {name: where(slow, 0.0, t) for name, t in cost.serial.items()}
    low, high = (where(slow, host, own) for host, own in zip(spread, cost.interval, strict=True))
    return replace(cost, overlapped=overlapped, serial=serial, interval=(low, high))


def working(cost: Cost) -> Num:
    """Seconds of the resource of the device that takes longest."""
    return launched(cost).busy


def launched(cost: Cost) -> Cost:
    """The cost of an op that was launched in time."""
    return replace(cost, overlapped={k: v for k, v in cost.overlapped.items() if k != LAUNCH})
