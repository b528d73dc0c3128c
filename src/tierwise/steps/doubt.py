"""What a time is least sure of: the one error that, were it measured, would narrow its interval most."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tierwise.core.intervals import Change, change, factors
from tierwise.steps.cost import StepCost

# An interval whose ends lie further apart than this factor says little: it is told what would narrow it.
WIDE = 2.0


@dataclass(frozen=True)
class Doubt:
    """The error with the largest part in an interval.

    Attributes:
        group: whose error it is (see :func:`tierwise.schedule.demand.group`), or ``engine``.
        part: of the interval's squared logarithms, 0 to 1.
        time: share of the time that its ops take; 1 for the engine.
        interval: factors on the time that 80 % of measurements lie between; ``without``: the same were it known.
    """

    group: str
    part: float
    time: float
    interval: tuple[float, float]
    without: tuple[float, float]


def doubt(steps: Sequence[tuple[StepCost, float]], wide: float = WIDE) -> Doubt | None:
    """The widest error of several steps that each run so often; None where the interval is no wider than ``wide``."""
    base = sum(n * float(step.time) for step, n in steps)
    groups = list(dict.fromkeys(g for step, _ in steps for g in step.groups))
    if not groups or not base > 0:
        return None
    moved = {g: _moved(steps, g, base) for g in groups}
    interval = _ends(moved.values())
    if interval[1] / interval[0] <= wide:
        return None
    squares = {g: float(np.sum(np.square(np.log(_ends([ends]))))) for g, ends in moved.items()}
    worst = max(groups, key=lambda g: squares[g])
    without = _ends(ends for g, ends in moved.items() if g != worst)
    return Doubt(worst, squares[worst] / sum(squares.values()), _time(steps, worst, base), interval, without)


def _moved(steps: Sequence[tuple[StepCost, float]], group: str, base: float) -> Change:
    return change(lambda end: sum(n * float(step.moved(group, end)) for step, n in steps), base)


def _ends(changes: Iterable[Change]) -> tuple[float, float]:
    low, high = factors(changes)
    return float(np.asarray(low)), float(np.asarray(high))


def _time(steps: Sequence[tuple[StepCost, float]], group: str, base: float) -> float:
    """Share of the time that a group's ops take."""
    from tierwise.schedule.demand import group as of
    from tierwise.steps.cost import ENGINE

    if group == ENGINE:
        return 1.0
    mine = sum(n * float(p.time) for step, n in steps for p in step.on_device if of(p.op, step.target) == group)
    return min(mine / base, 1.0)
