"""Numbers as people write them, the same in every report."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tierwise.core.units import seconds as _seconds

UNKNOWN = "–"


def count(x: float) -> str:
    """``2,048``; a fraction keeps one digit."""
    return f"{x:,.0f}" if float(x).is_integer() else f"{x:,.1f}"


def things(n: float, noun: str) -> str:
    """``1 request``, ``2,048 requests``."""
    return f"{count(n)} {noun}" + ("" if n == 1 else "s")


def rate(x: float | None) -> str:
    """A number of things a second, or of things in the mean, with three digits or so."""
    if x is None:
        return UNKNOWN
    return f"{x:,.0f}" if x >= 100 else f"{x:.1f}" if x >= 10 else f"{x:.3g}"


def seconds(x: float | None) -> str:
    """A time; nothing is ``0 s``."""
    return UNKNOWN if x is None else _seconds(x) if x else "0 s"


def percent(x: float | None) -> str:
    """A share of 1 as ``97 %``; close to all is not all, and little is not nothing."""
    if x is None:
        return UNKNOWN
    if 0.995 <= x < 1.0:
        return f"{f'{100 * x:.2f}'.rstrip('0')} %" if x < 0.9999 else ">99.99 %"
    if x >= 0.001:
        return f"{100 * x:.0f} %" if x >= 0.095 else f"{100 * x:.1f} %"
    return "<0.1 %" if x > 0 else "0 %"


def percents(values: Sequence[float]) -> list[int]:
    """Whole percentages that add up to 100 (largest remainders); all 0 when there is nothing to share."""
    total = sum(values)
    if not total > 0:
        return [0 for _ in values]
    exact = [100.0 * v / total for v in values]
    out = [int(x) for x in exact]
    by_rest = sorted(range(len(exact)), key=lambda i: out[i] - exact[i])
    for i in by_rest[: 100 - sum(out)]:
        out[i] += 1
    return out


# Spaces between a number and its unit, at which no line should break.
_UNIT = re.compile(r"(?<=\d) (?=(?:[kMGTPE]?(?:B|FLOP|J)|[nµm]?s|min|h|d)\b|%)")


def with_units_kept(text: str, sign: str) -> str:
    """The text with ``sign`` for the spaces between numbers and their units."""
    return _UNIT.sub(sign, text)
