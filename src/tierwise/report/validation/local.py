"""``tierwise validate local``: real models run on this computer by real engines, beside predictions."""

from __future__ import annotations

import json as jsonlib
from dataclasses import replace
from pathlib import Path

from rich.progress import Progress
from rich.table import Table

from tierwise.core.errors import TierwiseError
from tierwise.core.files import check_writable, write
from tierwise.core.units import seconds
from tierwise.machines import system
from tierwise.measure.bench import start
from tierwise.measure.bench_device import check
from tierwise.measure.engines import able, pick
from tierwise.measure.local import LocalReport, compare, conditions
from tierwise.report.console import console


def validate(paths: list[Path], json: Path | None, on: str = "", quick: bool = False) -> None:
    """Run the models, print a table of predicted and measured times, and write the report where asked.

    Raises:
        TierwiseError: no machine file, one without measurements, or no engine to run.
    """
    name = on or (str(paths[0]) if paths else "")
    if not name:
        raise TierwiseError("which machine is this? `tierwise calibrate` measures it; then give --on machine.yaml")
    if json is not None:
        check_writable(str(json))
    machine = system(name)
    if not machine.device.measured:
        raise TierwiseError(f"{name}: holds no measurements of engines; `tierwise calibrate` writes a file that does")
    threads, clock, device = conditions(machine)
    bench, _ = start(threads, clock, quick)

    modules, skipped = pick()
    modules = [m for m in modules if m.NAME in machine.device.measured and m.NAME != "numpy"]
    modules, limits, gone = able(modules)
    if device != "cpu":
        check(device)
        bench = replace(bench, device=device, timer=replace(bench.timer, wait=modules[0].wait(device)))
    out = console()
    for line in (*skipped, *gone, *limits):
        out.print(line, style="yellow")
    if not modules:
        raise TierwiseError(f"no engine measured in {name} is installed here; pip install 'tierwise[measure]'")
    with Progress(console=out, transient=True) as bar:
        task = bar.add_task("", total=1.0)
        report = compare(
            machine, modules, bench, quick, lambda what, share: bar.update(task, description=what, completed=share)
        )
    _show(report)
    if json is not None:
        write(str(json), jsonlib.dumps(report.as_dict(), indent=2))


def _show(report: LocalReport) -> None:

    out = console()
    title = f"Predicted and measured on {report.machine}"
    table = Table("engine", "pass", "predicted", "measured", "error", "bound by", title=title)
    for p in report.points:
        style = "red" if abs(p.error) > 0.5 else "yellow" if abs(p.error) > 0.25 else ""
        times = seconds(p.predicted), seconds(p.measured)
        table.add_row(p.engine, p.run, *times, f"{p.error:+.1%}", p.bound_by, style=style)
    out.print(table)
    for engine in sorted({p.engine for p in report.points}):
        part = LocalReport(report.machine, tuple(p for p in report.points if p.engine == engine))
        out.print(f"{engine}: median error {part.median:.1%} over {len(part.points)} points, worst {part.worst:.1%}")
    out.print(f"all: median error {report.median:.1%} over {len(report.points)} points, worst {report.worst:.1%}")
