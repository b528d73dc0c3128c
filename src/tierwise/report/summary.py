"""A result in a dozen lines: what a prompt or a notebook shows of it. Nothing is drawn here."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tierwise.core.num import Num
from tierwise.core.units import dollars, gb, joules, seconds
from tierwise.result import Result


class SummaryLine(NamedTuple):
    """One line: what it is, its value with its unit, and a remark (may be empty)."""

    name: str
    value: str
    remark: str


def table(result: Result) -> list[SummaryLine]:
    """The lines that hold for this result, in the order people ask for them.

    A sweep shows its least and greatest value where a scalar result shows one number. What is not known (a rent, a
    time per token where nothing is decoded) has no line.
    """
    s, memory = result.scenario, result.memory
    generates = s.model.task == "generate"
    things = "token" if generates else "request"
    candidates: list[tuple[str, Num, Callable[[float], str], str]] = [
        ("requests at once", result.batch, _number, f"on {_span(result.devices, _number)} × {s.machine.device.title}"),
        ("time", result.time, seconds, "of the whole batch"),
        ("TTFT", result.ttft if generates else np.nan, seconds, "until the last request has its first token"),
        ("TPOT", result.tpot, seconds, "of one request at mean context"),
        ("throughput", result.throughput, _number, f"{things}s a second, whole system"),
        ("memory", memory.peak, gb, f"of {gb(memory.capacity)} on the fullest device{_room(result)}"),
        ("energy", result.energy, joules, "of the whole system for the batch"),
        ("cost", result.cost_per_million, dollars, f"rent for a million {things}s"),
    ]
    rows = [SummaryLine(name, _span(x, text), remark) for name, x, text, remark in candidates if np.any(np.isfinite(x))]
    rows.insert(2, SummaryLine("interval", _interval(result), "80 % of measurements of the time lie in it"))
    bases = ", ".join(sorted({str(x) for x in np.ravel(np.asarray(result.basis))}))
    return [*rows, SummaryLine("basis", bases, _shares(result))]


def _interval(result: Result) -> str:
    """Two times; of a sweep, two factors on the time, since every configuration has an interval of its own."""
    ends = result.interval
    if np.size(result.time) == 1:
        return " to ".join(seconds(float(np.ravel(x)[0])) for x in ends)
    return " to ".join(f"{float(np.mean(np.asarray(x) / np.asarray(result.time))):.2f}×" for x in ends)


def _room(result: Result) -> str:
    fits = np.ravel(np.asarray(result.fits))
    return "" if fits.all() else "; does not fit" if not fits.any() else f"; {int(fits.sum())} of {len(fits)} fit"


def _shares(result: Result) -> str:
    """What the time rests on where it is more than one thing; of a sweep, in the mean."""
    shares = {name: float(np.mean(x)) for name, x in result.bases.items()}
    if len(shares) < 2:
        return "for all of the time"
    return ", ".join(f"{100.0 * x:.0f} % {name}" for name, x in shares.items())


def _span(x: Num, text: Callable[[float], str]) -> str:
    finite = np.ravel(np.asarray(x, dtype=float))
    finite = finite[np.isfinite(finite)]
    low, high = (text(float(v)) for v in (finite.min(), finite.max()))
    return low if low == high else f"{low} to {high}"


def _number(x: float) -> str:
    return f"{x:,.0f}" if x >= 100 or float(x).is_integer() else f"{x:.3g}"
