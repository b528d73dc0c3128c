"""``tierwise validate run``: recorded runs of engines beside their replays, as tables and as JSON."""

from __future__ import annotations

import json as jsonlib
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import RenderableType
from rich.table import Table

from tierwise.core.errors import TierwiseError
from tierwise.core.files import check_writable, write
from tierwise.core.units import seconds
from tierwise.measure.recorded import read_run, readable
from tierwise.measure.replayed import STATISTICS, ReplayedRun, compare, data, runs_in
from tierwise.report.console import console
from tierwise.steps.corrections import read_corrections

Floats = NDArray[np.float64]


def validate(
    paths: Sequence[Path], json: Path | None, on: str = "", calibration: str = "", model: str = ""
) -> None:
    """Every recorded run beside its replay.

    Args:
        on, model: machine and model that ran, where the recording does not say or they are to be others.

    Raises:
        TierwiseError: no file or folder, or one that holds no run.
    """
    if not paths:
        raise TierwiseError(f"validate run: name at least one recorded run: {readable()}")
    if json is not None:
        check_writable(str(json))
    named = {"model": model} if model else {}
    given = read_corrections(Path(calibration)) if calibration else None
    runs = [read_run(run) for path in paths for run in runs_in(path)]
    found = [compare(replace(r, meta={**r.meta, **named}), on, given) for r in runs]
    if json is None or str(json) != "-":
        for c in found:
            for part in shown(c):
                console().print(part)
    if json is not None:
        told = {"schema": "tierwise.validation-run/1", "runs": [data(c) for c in found]}
        write(str(json), jsonlib.dumps(told, indent=1))


def shown(c: ReplayedRun) -> list[RenderableType]:
    """Tables and lines for people."""
    group, n = c.run.deployment.groups[0], len(c.recorded.arrival)
    plan = group.plan
    degrees = ", ".join(f"{d} {getattr(plan, d):g}" for d in ("tp", "pp", "dp", "ep") if getattr(plan, d) > 1)
    title = (
        f"{c.recorded.folder.name}: {n:,} requests, {c.run.deployment.model.name} on "
        f"{c.run.deployment.devices} × {group.machine.device.title}" + (f" ({degrees})" if degrees else "")
    )
    table = Table("", *STATISTICS, title=title, title_justify="left", show_edge=False)
    for column in table.columns:
        column.justify = "right"
    for name, measured in c.measured.items():
        table.add_row(f"{name} measured", *map(seconds, measured))
        table.add_row("predicted", *map(seconds, c.predicted[name]))
        errors = [f"{e:+.1%}" if math.isfinite(e) else "–" for e in c.error(name)]
        table.add_row("error", *errors, end_section=True)
    out: list[RenderableType] = [table]
    for name, (measured, simulated) in c.series.items():
        most = float(max(measured.max(), simulated.max()))
        off = float(np.mean(np.abs(simulated - measured)) / max(measured.mean(), 1e-9))
        of = f"{most:.0%}" if name == "kv" else f"{most:.0f}"
        out.append(f"{name:8s} measured  {spark(measured, most)}  to {of}")
        out.append(f"{'':8s} predicted {spark(simulated, most)}  {off:.1%} off")
    if c.recorded.series and "kv" not in c.series:
        out.append(f"kv       not recorded (always 0); predicted to {float(np.max(c.run.series.kv)):.0%}")
    rests = {"datasheet": "datasheets alone", "transferred": "measurements of the engine on other machines"}
    out.append(f"rests on {rests.get(c.adjustment.basis, 'measurements')}"
               + (f": {c.adjustment.source}" if c.adjustment.source else ""))  # fmt: skip
    out.extend(c.recorded.notices)
    return out


def spark(values: Floats, most: float, width: int = 56) -> str:
    """Means over ``width`` equal parts as bars of eight heights; ``most`` is the highest."""
    parts = [p for p in np.array_split(values, min(width, max(len(values), 1))) if len(p)]
    bars = "▁▂▃▄▅▆▇█"
    heights = [min(int(8.0 * float(np.nanmean(p)) / max(most, 1e-12)), 7) for p in parts]
    return "".join(bars[max(h, 0)] for h in heights)
