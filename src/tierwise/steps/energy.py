"""Joules of a step by component, and the time that a cap on power makes of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from tierwise.core.num import Num, maximum, minimum, num
from tierwise.core.numerics import Names
from tierwise.cost.energy import Actions, actions, by_dtype, energy
from tierwise.cost.types import Cost, Target
from tierwise.machines.types import System
from tierwise.program.types import Op

# What the host's processors draw for ops that they compute, in place of a device.
PROCESSORS = "processors"


def joules(
    priced: Iterable[tuple[Num, Op, Cost]], seconds: Num, busy: Num, of: Actions, target: Target
) -> dict[str, Num]:  # fmt: skip
    """Joules of one device by component, and of what its part of the host's processors computes for it.

    Args:
        priced: executions, op and cost of every op. ``seconds``: how long the device is on for them, ``busy`` of which
            it works.
        of: what each action costs; what no source gives an energy of counts nothing.
        target: what ops are priced on.
    """
    every = list(priced)
    flops, moved = _counted((x for x in every if not _on_host(x[1])), of)
    out = energy(flops, moved, seconds, of, busy)
    away = [x for x in every if _on_host(x[1])]
    host = target.system.host
    if away and host is not None and host.cpu is not None:
        on = actions(host.cpu)
        # Devices that work at once have a part of the processors each, and draw a part of what these do.
        at_once = maximum(target.system.per_node / target.taking_turns, 1.0)
        working = sum((n * cost.busy for n, _, cost in away), 0.0) / at_once
        own = energy(*_counted(away, on), 0.0, on, working)
        out[PROCESSORS] = sum((x for name, x in own.items() if name != "idle"), 0.0)
    return out


def works(op: Op) -> bool:
    """Whether a device works while an op runs: not while something is copied, or computed by the host."""
    return op.kind != "copy" and not _on_host(op)


def _on_host(op: Op) -> bool:
    return bool(op.options.get("on") == "host" and op.kind != "copy")


def _counted(priced: Iterable[tuple[Num, Op, Cost]], of: Actions) -> tuple[dict[str, Num], dict[str, Num]]:
    """(FLOP by dtype, bytes by tier and link)."""
    flops: dict[str, Num] = {}
    moved: dict[str, Num] = {}
    for times, op, cost in priced:
        for dtype, count in by_dtype(cost.flops, _dtype(op)).items():
            flops[dtype] = flops.get(dtype, 0.0) + times * count
        for name, size in cost.bytes.items():
            # A direction of a link costs what the link does.
            known = name if name in of.bytes else name.split(".", maxsplit=1)[0]
            if known in of.bytes:
                moved[known] = moved.get(known, 0.0) + times * size
    return flops, moved


def by_op(
    priced: Sequence[tuple[Num, Op, Cost]], seconds: Num, busy: Num, of: Actions, target: Target
) -> tuple[list[dict[str, Num]], dict[str, Num]]:
    """(joules of one device by component for each op, what is drawn between them): together those of :func:`joules`.

    Idle power goes with the time of an op, active power with the time in which it works. Ops beside each other share
    the time that they take together.

    Args:
        priced, seconds, busy, of, target: as of :func:`joules`.
    """
    times = [n * cost.time for n, _, cost in priced]
    working = [n * cost.busy if works(op) else 0.0 for n, op, cost in priced]
    at, on = (minimum(num(whole) / maximum(sum(each, 0.0), 1e-300), 1.0)
              for whole, each in ((seconds, times), (busy, working)))  # fmt: skip
    rows = [joules([x], at * t, on * w, of, target) for x, t, w in zip(priced, times, working, strict=True)]
    left = {"active": of.active * (busy - on * sum(working, 0.0)), "idle": of.idle * (seconds - at * sum(times, 0.0))}
    return rows, left


def _dtype(op: Op) -> Names:
    return "fp32" if isinstance(op.arithmetic, str) and not op.arithmetic else op.arithmetic


def may_exceed(system: System) -> bool:
    """Whether a step on a machine could draw more than it may: somebody lowered what it is rated for, or a tier at its
    full rate takes more than that by itself. Of all others a sustained product draws the most."""
    if np.any(np.isfinite(np.asarray(system.power_cap))):
        return True
    power = system.power
    stated = [np.max(np.nan_to_num(np.asarray(t.energy * t.bandwidth, dtype=float))) for t in system.device.tiers]
    return bool(np.any(np.asarray(stated) > np.nan_to_num(power.rated - power.idle, nan=np.inf)))


def total(parts: Mapping[str, Num]) -> Num:
    """Joules of all components."""
    return sum(parts.values(), 0.0)
