"""How sure a time is, given how sure the parts that it is made of are: the one way in which errors are put together.

An error is a factor, shared by everything that gets the same thing wrong (all ops of a class) and independent of all
other errors. Each is moved to its ends by itself, and what that does to the logarithm of the time is combined as the
root of the sum of squares, for each side by itself. The time itself, the median, always lies inside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

import numpy as np

from tierwise.core.num import Num, maximum, minimum, num, scalar

Interval: TypeAlias = tuple[Num, Num]
"""Low and high end that 80 % of measurements are expected between: of seconds, or factors on them."""

Change: TypeAlias = tuple[Num, Num]
"""What an error does to the logarithm of a time at its low and at its high end."""


def factors(changes: Iterable[Change]) -> Interval:
    """Factors on a time that 80 % of measurements lie between, at most 1 and at least 1, of independent errors."""
    low: Num = 0.0
    high: Num = 0.0
    for ends in changes:
        low, high = low + minimum(*ends, 0.0) ** 2, high + maximum(*ends, 0.0) ** 2
    return scalar(np.exp(-np.sqrt(low))), scalar(np.exp(np.sqrt(high)))


def change(moved: Callable[[int], Num], usual: Num) -> Change:
    """What one error does to the logarithm of a time.

    Args:
        moved: seconds when the error is at its low (0) or high (1) end. ``usual``: seconds without it.
    """
    return _log(moved(0), usual), _log(moved(1), usual)


def _log(moved: Num, usual: Num) -> Num:
    """Of the ratio; 0 where there is nothing to change (no time, or no end of it)."""
    fine = (np.asarray(usual) > 0) & np.isfinite(usual) & (np.asarray(moved) > 0)
    return num(np.log(np.where(fine, moved, 1.0) / np.where(fine, usual, 1.0)))
