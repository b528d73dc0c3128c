"""Exponents of power laws, fitted over a sweep."""

from __future__ import annotations

import numpy as np

from tierwise.core.num import Num


def exponent(x: Num, y: Num) -> float:
    """The slope of ``log y`` over ``log x`` by least squares."""
    return float(np.polyfit(np.log(np.asarray(x, dtype=float)), np.log(np.asarray(y, dtype=float)), 1)[0])
