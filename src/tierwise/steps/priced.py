"""Prices of a step's ops: corrected by what was measured, split by what bounds them, in whole turns of repeats."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tierwise.core.num import Num, maximum, num, scalar, where
from tierwise.cost import Cost
from tierwise.cost.types import name_of_largest
from tierwise.program.program import Body, Program, Repeat
from tierwise.program.types import Op, Segment
from tierwise.steps.corrections import Corrections

_Part = TypeVar("_Part", Body, Body | Repeat)


@dataclass(frozen=True)
class PricedOp:
    """An op, what one execution costs, and how often it runs in its pass."""

    segment: Segment
    op: Op
    cost: Cost

    @property
    def time(self) -> Num:
        """Seconds over all executions of one pass."""
        return self.segment.repeat * self.cost.time


def scaled(cost: Cost, factor: Num) -> Cost:
    """The cost of an op that takes so many times as long."""
    return replace(cost, overlapped={k: v * factor for k, v in cost.overlapped.items()},
                   serial={k: v * factor for k, v in cost.serial.items()})  # fmt: skip


def split(priced: Iterable[tuple[Num, Cost]]) -> dict[str, Num]:
    """Seconds by the resource that bounds each cost, so many times over; of arrays at each configuration by its own."""
    out: dict[str, Num] = {}
    for times, cost in priced:
        best = name_of_largest(cost.overlapped) if cost.overlapped else "none"
        for name in cost.overlapped:
            mine = where(np.asarray(best) == name, cost.busy, 0.0)
            out[name] = out.get(name, 0.0) + times * mine
        for name, t in cost.serial.items():
            out[name] = out.get(name, 0.0) + times * t
    return out


def in_whole_turns(program: Program) -> tuple[Program, tuple[tuple[Op, Num], ...]]:
    """A program whose repeats have whole counts, and the share of an execution that ops then stand for: a rank that
    holds every eighth chunk works on an eighth of it each step."""
    shares: list[tuple[Op, Num]] = []
    items = tuple(_whole(item, None, False, shares) for item in program.items)
    return (Program(items, program.role), tuple(shares)) if shares else (program, ())


def _whole(item: _Part, share: Num | None, nested: bool, shares: list[tuple[Op, Num]]) -> _Part:
    """A body or repeat in whole turns; ``share``: of an execution that one of its turns stands for, None for all."""
    if isinstance(item, Body):
        if share is not None:
            shares += [(x, share) for x in item.items if isinstance(x, Op)]
        inner = (x if isinstance(x, Op) else _whole(x, share, nested, shares) for x in item.items)
        return replace(item, items=tuple(inner))
    count = np.asarray(item.count)
    if np.any(count != np.floor(count)) or (nested and count.ndim):
        turns = float(np.ceil(np.max(count)))
        share = (1.0 if share is None else share) * item.count / turns
        item = replace(item, count=turns)
    return replace(item, bodies=tuple(_whole(b, share, True, shares) for b in item.bodies))


def kernels(program: Program) -> Num:
    """Kernels of a program, collectives aside."""
    return sum((s.repeat for s, op in program.walk() if op.kind not in ("collective", "copy")), 0.0)


def mixtures(program: Program) -> Num:
    """Layers of a program that route tokens to experts."""
    return sum((s.repeat for s, op in program.walk() if op.kind == "moe"), 0.0)


def step_time(device: Num, launch: Num, host: Num, ahead: bool | NDArray[np.bool_]) -> Num:
    """Seconds of a step from its parts (the loop of the simulator does the same, compiled).

    Launching runs ahead of the device: the slower of both shows, with little of the other where they are close. So has
    it the closed loop, by which the seconds of a launch were fitted (``serving/steady.py``).
    """
    slower = scalar(np.hypot(device, launch))
    if isinstance(ahead, np.ndarray):
        return where(ahead, maximum(slower, num(host)), slower + host)
    return maximum(slower, num(host)) if ahead else slower + host


def corrected(op: Op, cost: Cost, c: Corrections) -> Cost:
    """A price with what was measured of the engine: a factor on every op, and on what links carry."""
    factor = c.ops / (c.link if op.kind == "collective" else 1.0)
    if factor == 1.0:
        return cost
    return scaled(cost, factor)
