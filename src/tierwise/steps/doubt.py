"""What a time is least sure of: the one error that, were it measured, would narrow its interval most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
    ends = np.array([[sum(n * float(step.moved(g, end)) for step, n in steps) for end in (0, 1)] for g in groups])
    logs = np.log(np.maximum(ends, 1e-300) / base)
    squares = np.stack([np.minimum(logs[:, 0], 0.0) ** 2, np.maximum(logs[:, 1], 0.0) ** 2], axis=1)
    interval = _factors(squares.sum(axis=0))
    if interval[1] / interval[0] <= wide:
        return None
    worst = int(np.argmax(squares.sum(axis=1)))
    part, without = squares[worst].sum() / squares.sum(), _factors(squares.sum(axis=0) - squares[worst])
    return Doubt(groups[worst], float(part), _time(steps, groups[worst], base), interval, without)


def _factors(squares: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.sqrt(np.maximum(squares, 0.0))
    return float(np.exp(-low)), float(np.exp(high))


def _time(steps: Sequence[tuple[StepCost, float]], group: str, base: float) -> float:
    """Share of the time that a group's ops take."""
    from tierwise.schedule.demand import group as of
    from tierwise.steps.cost import ENGINE

    if group == ENGINE:
        return 1.0
    mine = sum(n * float(p.time) for step, n in steps for p in step.on_device if of(p.op, step.target) == group)
    return min(mine / base, 1.0)
