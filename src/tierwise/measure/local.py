"""Real models with random weights, run here by real engines, beside predictions.

The models are other ones than those `tierwise calibrate` measured with: other widths, depths, vocabularies,
lengths and batches. Each is timed with the clock and threads of the machine file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from types import ModuleType
from typing import Any

from tierwise.machines.types import System
from tierwise.measure.bench_clock import Timing
from tierwise.measure.engines import MeasureSettings


@dataclass(frozen=True)
class Point:
    """One pass: seconds predicted and measured, and what the prediction says bounds it."""

    engine: str
    run: str
    predicted: float
    measured: float
    scatter: float
    bound_by: str

    @property
    def error(self) -> float:
        """Predicted over measured, less one."""
        return self.predicted / self.measured - 1.0


@dataclass(frozen=True)
class LocalReport:
    """All points of a validation."""

    machine: str
    points: tuple[Point, ...]

    @property
    def median(self) -> float:
        """Median absolute relative error."""
        errors = sorted(abs(p.error) for p in self.points)
        n = len(errors)
        return (errors[(n - 1) // 2] + errors[n // 2]) / 2.0 if n else float("nan")

    @property
    def worst(self) -> float:
        return max((abs(p.error) for p in self.points), default=float("nan"))

    def as_dict(self) -> dict[str, Any]:
        return {
            "machine": self.machine,
            "points": [{**asdict(p), "error": p.error} for p in self.points],
            "median_error": self.median,
            "worst_error": self.worst,
            "engines": sorted({p.engine for p in self.points}),
        }


def conditions(machine: System) -> tuple[int, str, str]:
    """(threads, clock, device) a machine file was measured with."""
    profile = next(iter(machine.device.measured.values()))
    match = re.search(r"(\d+) thread", profile.source)
    device = re.search(r"device (\S+?)[;,]", profile.source + ";")
    clock = "cpu" if "processor time" in profile.source else "wall"
    return int(match[1]) if match else 1, clock, device[1] if device else "cpu"


def compare(
    machine: System, modules: Iterable[ModuleType], bench: MeasureSettings, quick: bool,
    progress: Callable[[str, float], None] = lambda what, share: None,
) -> LocalReport:  # fmt: skip
    """Run every model of every engine, each against the engine's own profile.

    Args:
        progress: told before every run what it is, and the share of all that is done.
    """
    from tierwise.measure.engines import chosen

    todo = [(m, r) for m in modules for r in chosen(m.runs("validate", bench), quick)]
    # Predicted before anything is measured.
    phases = [r.on(using(machine, m.NAME)) for m, r in todo]
    timings: list[Timing] = []
    for n in range(2 * len(todo)):
        module, run = todo[n % len(todo)]
        progress(f"{module.NAME}: {run.name}", n / (2 * len(todo)))
        timings.append(bench.timer(run.prepare()))
    # As in calibration: each twice, a while apart, the quieter of the two medians.
    quiet = [min(timings[i], timings[i + len(todo)], key=lambda t: t.median) for i in range(len(todo))]
    return LocalReport(
        machine.name,
        tuple(
            Point(m.NAME, r.name, float(p.pass_time), t.median, t.scatter, str(p.bound_by))
            for (m, r), p, t in zip(todo, phases, quiet, strict=True)
        ),
    )


def using(machine: System, engine: str) -> System:
    """The machine with one engine's measurements alone."""
    measured = machine.device.measured
    return replace(machine, device=replace(machine.device, measured={engine: measured[engine]}))
