"""How this computer is measured: threads, clock and repeats."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tierwise.core.errors import BadField

if TYPE_CHECKING:
    from tierwise.measure.engines import MeasureSettings


def start(threads: int | None, clock: str, quick: bool) -> tuple[MeasureSettings, str]:
    """(how to measure, the clock's name). Sets the thread counts of libraries, so it comes before they load."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = count if threads is None else threads
    if not 1 <= threads <= count:
        raise BadField("--threads", "count", threads, f"1 to {count}")
    if clock not in ("auto", "wall", "cpu"):
        raise BadField("--clock", "clock", clock, "auto, wall or cpu")
    if clock == "cpu" and threads > 1:
        raise BadField("--clock", "clock", clock, "wall, with more than one thread")
    for name in ("OMP", "MKL", "OPENBLAS", "VECLIB_MAXIMUM", "NUMEXPR"):
        os.environ[f"{name}_NUM_THREADS"] = str(threads)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")

    from tierwise.measure.bench_clock import CLOCKS, Stopwatch
    from tierwise.measure.engines import MeasureSettings

    ticks = clock if clock != "auto" else "cpu" if threads == 1 else "wall"
    return MeasureSettings(threads, Stopwatch(CLOCKS[ticks], seconds=0.1 if quick else 0.3), quick), ticks
