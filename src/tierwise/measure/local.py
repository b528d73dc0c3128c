"""``tierwise validate local``: real models with random weights, run here by real engines, beside predictions.

The models are other ones than those `tierwise calibrate` measured with: other widths, depths, vocabularies,
lengths and batches. Each is timed with the clock and threads of the machine file.
"""

from __future__ import annotations

import json as jsonlib
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from tierwise.core.errors import TierwiseError
from tierwise.machines.types import System
from tierwise.measure.bench_clock import Timing
from tierwise.measure.engines import Bench


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
class Report:
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


def validate(paths: list[Path], json: Path | None, on: str = "", quick: bool = False) -> None:
    """Run the models, print a table of predicted and measured times, and write the report where asked.

    Raises:
        TierwiseError: no machine file, one without measurements, or no engine to run.
    """
    from tierwise.cli.calibrate import start
    from tierwise.core.files import check_writable, write
    from tierwise.report.console import console

    name = on or (str(paths[0]) if paths else "")
    if not name:
        raise TierwiseError("which machine is this? `tierwise calibrate` measures it; then give --on machine.yaml")
    if json is not None:
        check_writable(str(json))
    from tierwise.machines import system

    machine = system(name)
    if not machine.device.measured:
        raise TierwiseError(f"{name}: holds no measurements of engines; `tierwise calibrate` writes a file that does")
    threads, clock, device = conditions(machine)
    bench, _ = start(threads, clock, quick)

    from tierwise.measure.bench_device import check
    from tierwise.measure.engines import pick

    modules, skipped = pick()
    modules = [m for m in modules if m.NAME in machine.device.measured and m.NAME != "numpy"]
    if device != "cpu":
        check(device)
        bench = replace(bench, device=device, timer=replace(bench.timer, wait=modules[0].wait(device)))
    out = console()
    for line in skipped:
        out.print(line, style="yellow")
    if not modules:
        raise TierwiseError(f"no engine measured in {name} is installed here; pip install 'tierwise[measure]'")
    report = compare(machine, modules, bench, quick)
    _show(report)
    if json is not None:
        write(str(json), jsonlib.dumps(report.as_dict(), indent=2))


def conditions(machine: System) -> tuple[int, str, str]:
    """(threads, clock, device) a machine file was measured with."""
    profile = next(iter(machine.device.measured.values()))
    match = re.search(r"(\d+) thread", profile.source)
    device = re.search(r"device (\S+?)[;,]", profile.source + ";")
    clock = "cpu" if "processor time" in profile.source else "wall"
    return int(match[1]) if match else 1, clock, device[1] if device else "cpu"


def compare(machine: System, modules: Iterable[ModuleType], bench: Bench, quick: bool) -> Report:
    """Run every model of every engine, each against the engine's own profile."""
    from rich.progress import Progress

    from tierwise.measure.engines import chosen
    from tierwise.report.console import console

    todo = [(m, r) for m in modules for r in chosen(m.runs("validate", bench), quick)]
    # Predicted before anything is measured.
    phases = [r.on(using(machine, m.NAME)) for m, r in todo]
    timings: list[Timing] = []
    with Progress(console=console(), transient=True) as bar:
        task = bar.add_task("", total=2 * len(todo))
        for n in range(2 * len(todo)):
            module, run = todo[n % len(todo)]
            bar.update(task, description=f"{module.NAME}: {run.name}", advance=1)
            timings.append(bench.timer(run.prepare()))
    # As in calibration: each twice, a while apart, the quieter of the two medians.
    quiet = [min(timings[i], timings[i + len(todo)], key=lambda t: t.median) for i in range(len(todo))]
    return Report(
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


def _show(report: Report) -> None:
    from rich.table import Table

    from tierwise.core.units import seconds
    from tierwise.report.console import console

    out = console()
    title = f"Predicted and measured on {report.machine}"
    table = Table("engine", "pass", "predicted", "measured", "error", "bound by", title=title)
    for p in report.points:
        style = "red" if abs(p.error) > 0.5 else "yellow" if abs(p.error) > 0.25 else ""
        times = seconds(p.predicted), seconds(p.measured)
        table.add_row(p.engine, p.run, *times, f"{p.error:+.1%}", p.bound_by, style=style)
    out.print(table)
    for engine in sorted({p.engine for p in report.points}):
        part = Report(report.machine, tuple(p for p in report.points if p.engine == engine))
        out.print(f"{engine}: median error {part.median:.1%} over {len(part.points)} points, worst {part.worst:.1%}")
    out.print(f"all: median error {report.median:.1%} over {len(report.points)} points, worst {report.worst:.1%}")
