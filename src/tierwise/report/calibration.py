"""What `tierwise calibrate` says: of this computer as measured, of a recorded run as fitted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from tierwise.core.files import check_writable, write
from tierwise.core.units import gb, seconds, si
from tierwise.measure.engines import MeasureSettings
from tierwise.measure.fit_run import FACTORS, fit, to_yaml
from tierwise.measure.recorded import read_run
from tierwise.report.console import console
from tierwise.report.validation.run import shown


def from_run(folder: Path, output: str, on: str = "") -> None:
    """Fit a recorded run, show, and write the file that ``--calibration`` takes."""
    check_writable(output)
    found = fit(read_run(folder), on)
    out = console()
    out.print("before", *shown(found.before)[:1], "after", *shown(found.after)[:1], sep="\n")
    for name, left in found.left.items():
        value = getattr(found.adjustment, name)
        said = f"{value:.3f} of what was expected" if name in FACTORS else f"{1e3 * value:.2f} ms"
        out.print(f"{name:11s} {said}" + ("" if left < 0.8 else ", which this run does not determine"))
    write(output, to_yaml(found))
    out.print(f"Written to {output}. Try: tierwise validate run ANOTHER --calibration {output}")


def show(found: Mapping[str, Any], bench: MeasureSettings) -> None:
    """Tables of a measured machine."""
    out = console()
    table = Table("tier", "capacity", "bandwidth", "latency", title=found["title"])
    for t in found["tiers"]:
        table.add_row(t["name"], gb(t["capacity"]), f"{gb(t['bandwidth'])}/s", seconds(t["latency"]))
    out.print(table)
    table = Table("engine", "products", "FLOP/s", "weights in cache", "weights in memory", "a call")
    for p in found["calibration"]:
        for form, x in p["products"].items():
            table.add_row(p["engine"], form, si(x["rate"], "FLOP/s"), f"{gb(max(x['one']['value']))}/s",
                          f"{gb(x['one']['value'][-1])}/s", seconds(x["call"]))  # fmt: skip
    out.print(table)
    scatter = sorted(t.scatter for t in bench.timer.history)
    if scatter and scatter[len(scatter) // 2] > 0.1:
        out.print(f"Half of the measurements scatter by more than {scatter[len(scatter) // 2]:.0%}: the machine was "
                  "not quiet, and predictions will be off by as much.", style="yellow")  # fmt: skip
