"""From the rows of a file to a trace: what cannot be used is refused with its line, the rest is answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from tierwise.core.errors import TierwiseError
from tierwise.serving.traffic.trace import Floats, Ints, Trace, trace

LISTED = 5  # refused lines told one by one; the rest are counted
EXACT = 2.0**53  # the largest whole number up to which float64 holds every one
LATEST = EXACT * 1e-6  # seconds up to which float64 tells every microsecond
CLOCK = 1e8  # seconds; a first arrival after more than three years is the reading of a clock (of Unix, since 1973)
UNITS = {1.0: "seconds", 1e-3: "milliseconds", 1e-6: "microseconds", 1e-9: "nanoseconds"}
UNCERTAIN = 1e-3  # seconds; formats of a finer unit say it in the field's name, and 1e9 of it are no year 2001
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Rows:
    """A file's rows, as columns, before anyone judged them.

    Attributes:
        path: the file.
        numbers: columns by name, shape (n,), nan where the file holds no number.
        lines: each row's line in the file, from 1, shape (n,).
        shown: what the file holds in a column and row, for messages.
        broken: lines that could not be split into fields, with what is wrong.
        notices: what was already changed.
        place: what ``lines`` counts, for messages.
    """

    path: Path
    numbers: dict[str, Floats]
    lines: Ints
    shown: Callable[[str, int], str]
    broken: tuple[tuple[int, str], ...] = ()
    notices: tuple[str, ...] = ()
    place: str = "line"

    def __len__(self) -> int:
        return len(self.lines)


def built(
    rows: Rows,
    arrival: str,
    prompt: str,
    output: str,
    *,
    unit: float = 1.0,
    absolute: bool = False,
    whole: Mapping[str, float] = MappingProxyType({}),
    left_out: tuple[Bools, str] | None = None,
    **other: object,
) -> Trace:
    """The trace of all usable rows, in order of arrival.

    Args:
        arrival, prompt, output: names of the columns.
        unit: seconds of one unit of ``arrival``.
        absolute: arrivals are times of day or of a clock; the first becomes 0, and none is negative.
        whole: further columns that must hold whole numbers, and the least of each.
        left_out: rows that are no error but no requests either, and what to call them.
        other: further fields of a trace, in the file's order of rows.

    Raises:
        TierwiseError: no row can be used.
    """
    gone, notices = np.zeros(len(rows), bool), list(rows.notices)
    if unit >= UNCERTAIN and (since := unix_unit(rows.numbers[arrival])) and (since != unit or since != 1.0):
        notices.append(f"{arrival} is a clock of {UNITS[since]} since 1970")
        unit, absolute = since, True
    if left_out is not None and left_out[0].any():
        gone = left_out[0]
        notices.append(f"{_count(int(gone.sum()), 'row')} left out: {left_out[1]}")
    bad, told = _refused(rows, (arrival, prompt, output), absolute, unit, whole, ~gone)
    if told:
        notices.append(told)
    keep = ~(gone | bad)
    if not keep.any():
        raise TierwiseError(f"{rows.path}: no request can be used. {'; '.join(notices) or 'The file holds no rows.'}")
    times = rows.numbers[arrival]
    start = float(times[keep].min())
    if not absolute and start * unit >= CLOCK:
        notices.append(f"{arrival} is the time of a clock, {start:.0f} at first: counted from there")
        absolute = True
    times = (times - (start if absolute else 0.0)) * unit
    fill = {name: np.where(keep, rows.numbers[name], 1.0).astype(np.int64) for name in (prompt, output)}
    whole_trace = trace(np.where(keep, times, 0.0), fill[prompt], fill[output], **other)
    return settled(whole_trace, keep, rows, notices)


def unix_unit(times: Floats) -> float:
    """Seconds of one unit where times (n,) are those of a Unix clock, which their size tells: all between 2001 and
    2096. 0.0 where they are none."""
    known = times[np.isfinite(times)]
    if not len(known):
        return 0.0
    low, high = float(known.min()), float(known.max())
    return next((unit for unit in UNITS if low * unit >= 1e9 and high * unit <= 4e9), 0.0)


def settled(requests: Trace, keep: Bools, rows: Rows, notices: list[str]) -> Trace:
    """The kept requests sorted by arrival, no turn before the one it follows, and a word on what changed."""
    times, known = requests.arrival, np.flatnonzero(keep)
    late = np.flatnonzero(np.diff(times[known]) < 0)
    if len(late):
        line = rows.lines[known[late[0] + 1]]
        notices = [*notices, f"arrivals were not in order (first at {rows.place} {line}): sorted"]
    order = known[np.argsort(times[known], kind="stable")] if len(late) else known
    out = requests if len(order) == len(requests) and not len(late) else requests.take(order)
    early = out.after >= np.arange(len(out))
    if early.any():
        notices = [*notices, f"{_count(int(early.sum()), 'request')} came before what they follow: taken as the first "
                             "of a session"]  # fmt: skip
        out = replace(out, after=np.where(early, -1, out.after), think=np.where(early, 0.0, out.think))
    return replace(out, source=str(rows.path), notices=tuple(notices))


def _refused(rows: Rows, needed: tuple[str, str, str], absolute: bool, unit: float, whole: Mapping[str, float],
             asked: Bools) -> tuple[Bools, str]:  # fmt: skip
    """Which rows hold what a request cannot hold (n,), and the sentence that says so, the first lines one by one."""
    arrival, prompt, output = needed
    times = rows.numbers[arrival]
    good_time = np.isfinite(times) if absolute else (times >= 0) & (times * unit <= LATEST)
    count = "a whole number of at least 1"
    checks = [(arrival, good_time, "a time" if absolute else f"a time of 0 or later, at most {LATEST / unit:.2g}")]
    for name in (prompt, output):
        x = rows.numbers[name]
        checks.append((name, (x >= 1) & (x <= EXACT) & (x == np.floor(x)), count))
    for name, least in whole.items():
        x = rows.numbers[name]
        said = "a whole number" + (f" of at least {least:g}" if np.isfinite(least) else "")
        checks.append((name, (x >= least) & (x == np.floor(x)) & (np.abs(x) <= EXACT), said))
    bad, reasons = np.zeros(len(rows), bool), list(rows.broken)
    for name, good, allowed in checks:
        new = np.flatnonzero(~good & ~bad & asked)
        bad[new] = True
        reasons += [(int(rows.lines[i]), f"{name}: found {rows.shown(name, int(i))}; allowed: {allowed}")
                    for i in new[:LISTED]]  # fmt: skip
    total = int(bad.sum()) + len(rows.broken)
    if not total:
        return bad, ""
    first = sorted(reasons)[:LISTED]
    text = f"{_count(total, 'row')} of {len(rows) + len(rows.broken)} refused: "
    text += "; ".join(f"{rows.place} {line}: {why}" for line, why in first)
    return bad, text + (f"; and {total - len(first)} more." if total > len(first) else ".")


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" + ("" if n == 1 else "s")
