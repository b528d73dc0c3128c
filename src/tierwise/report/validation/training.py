"""``tierwise validate training``: recorded training steps beside predictions, as a table and as JSON."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tierwise.core.files import write
from tierwise.measure.training import TrainingRows, measured, measured_memory, read, table
from tierwise.report.console import console
from tierwise.report.layout import Column, Report, ReportSection, Sentences
from tierwise.report.layout import Table as Shown
from tierwise.report.validation import named

Array = NDArray[np.float64]
Json = dict[str, Any]


def validate(paths: Sequence[Path], json: Path | None) -> None:
    """Every file's rows beside the predictions.

    Raises:
        TierwiseError: no file, or one that is not a table of training runs.
    """
    rows = [row for path in named(paths, "training", "Parquet or CSV file of runs") for row in read(path)]
    found = compared(table(rows))
    if json is not None:
        write(str(json), jsonlib.dumps(found, indent=1))
    if str(json) != "-":
        from tierwise.report.terminal import show

        show(_report(found, [p.name for p in paths]), console())


def compared(t: TrainingRows) -> Json:
    """Errors of time and memory by source and framework; rows that nothing was predicted for, by reason."""
    seconds, (size, stage) = measured(t), measured_memory(t)
    time, peak, most = (np.full(len(t), np.nan) for _ in range(3))
    bounds, held = np.full((2, len(t)), np.nan), np.full((2, len(t)), np.nan)
    name = np.full(len(t), "", dtype="<U24")
    for g in t.groups:
        step = g.step()
        time[g.rows], peak[g.rows], name[g.rows] = step.time, g.peak(stage[g.rows]), g.how.name
        # A reading is of one stage's device; a run ends where any stage has no room.
        most[g.rows] = step.memory.peak
        for i in (0, 1):
            bounds[i, g.rows] = step.interval[i]
            held[i, g.rows] = g.how.memory_interval[i] * peak[g.rows]
    source = np.asarray([str(x) for x in t.columns.get("source", np.full(len(t), "", dtype=object))])
    rows = []
    for what, mine, true, ends in (("time", time, seconds, bounds), ("memory", peak, size, held)):
        has = np.isfinite(true)
        for s in sorted(set(source[has])):
            for n in sorted(set(name[has & (source == s)])):
                k = has & (source == s) & (name == n)
                rows.append({"of": what, "source": s, "framework": n, **_errors(mine[k], true[k], ends[:, k])})
    reasons: dict[str, int] = {}
    for i, why in t.refused.items():
        if np.isfinite(seconds[i]) or np.isfinite(size[i]):
            reasons[why] = reasons.get(why, 0) + 1
    return {"rows": len(t), "errors": rows, "refused": reasons, "out_of_memory": _out_of_memory(t, most)}


def _errors(mine: Array, true: Array, ends: Array) -> Json:
    answered = np.isfinite(mine)
    out: Json = {"rows": len(true), "answered": int(answered.sum())}
    if not answered.any():
        return out
    ratio = mine[answered] / true[answered]
    inside = (ends[0, answered] <= true[answered]) & (true[answered] <= ends[1, answered])
    off = np.abs(ratio - 1.0)
    return {
        **out,
        "median": float(np.median(off)),
        "mean": float(np.mean(off)),
        "bias": float(np.exp(np.median(np.log(ratio)))),
        "inside": float(np.mean(inside)),
    }


def _out_of_memory(t: TrainingRows, peak: Array) -> Json:
    """Runs that ended for want of memory, and how many were foretold; of rows that say what they recompute."""
    capacity = np.full(len(t), np.nan)
    for g in t.groups:
        capacity[g.rows] = g.system.device.memory.capacity - g.system.device.reserve
    status = np.asarray([str(x) for x in t.columns.get("status", np.full(len(t), "ok", dtype=object))])
    # Where nobody says what is computed again, nothing says what is kept.
    none = np.full(len(t), None, dtype=object)
    known = np.isfinite(peak) & np.asarray([bool(str(x or "")) for x in t.columns.get("recompute", none)])
    out: Json = {}
    for name in ("oom", "oom_or_crash", "ok"):
        k = known & (status == name)
        out[name] = {"rows": int(k.sum()), "too_large": int((peak[k] > capacity[k]).sum())}
    return out


def _report(found: Json, names: Sequence[str]) -> Report:
    columns = (
        Column("of", left=True),
        Column("source", left=True),
        Column("framework", left=True, shown_from=90),
        Column("rows"),
        Column("answered"),
        Column("median"),
        Column("mean"),
        Column("bias"),
        Column("in interval"),
    )
    rows = []
    for r in found["errors"]:
        said = ["", "", "", ""]
        if "median" in r:
            said = [f"{r['median']:.1%}", f"{r['mean']:.1%}", f"{r['bias']:.2f}", f"{r['inside']:.0%}"]
        rows.append([r["of"], r["source"] or "-", r["framework"] or "-", str(r["rows"]), str(r["answered"]), *said])
    oom = found["out_of_memory"]
    told = [
        f"Ran out of memory: {oom['oom']['too_large']} of {oom['oom']['rows']} foretold (of rows that ran out or "
        f"crashed: {oom['oom_or_crash']['too_large']} of {oom['oom_or_crash']['rows']}); of {oom['ok']['rows']} that "
        f"ran, {oom['ok']['too_large']} would be refused."
    ]
    told += [f"Not answered: {n} rows: {why}" for why, n in sorted(found["refused"].items(), key=lambda x: -x[1])]
    return Report(
        title="Training runs",
        subject="Training runs",
        place="beside predictions",
        subtitle=", ".join(names),
        headline=f"{found['rows']} rows",
        state="fits",
        alarm=False,
        why=(),
        numbers=(),
        sections={
            "errors": ReportSection("Errors", Shown(columns, rows)),
            "rest": ReportSection("Besides", Sentences(told)),
        },
    )
