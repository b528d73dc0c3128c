"""A training step whose stages differ, as the data of a training report with a table of the stages beside."""

from __future__ import annotations

from typing import Any

import numpy as np

from tierwise.core.units import gb, seconds
from tierwise.models.types import Model
from tierwise.report.layout import Column, Report, ReportSection, Sentences, Table
from tierwise.report.training_data import head, layout_dict, pipeline
from tierwise.report.training_report import described
from tierwise.training.uneven import UnevenStep

Json = dict[str, Any]


def uneven_data(step: UnevenStep, model: Model, tokens: float | None = None) -> Json:
    """What the JSON holds and the page draws.

    Args:
        tokens: of the whole run, where it is to be said how long that takes.
    """
    each = float(np.asarray(step.layout.tp * step.layout.replicas))
    kinds: dict[str, float] = {}
    for s in step.stages:
        title = s.system.device.title
        kinds[title] = kinds.get(title, 0.0) + each
    fullest = max(range(len(step.stages)), key=lambda i: _full(step, i))
    memory = step.stages[fullest].memory
    rents = [float(np.asarray(s.system.rent(each))) * 3600.0 for s in step.stages]
    devices = sum(kinds.values())
    machine = {
        "name": " + ".join(dict.fromkeys(s.system.name for s in step.stages)),
        "title": " and ".join(f"{n:.0f} × {title}" for title, n in kinds.items()),
        "devices": devices,
        "usd_per_hour": sum(rents) if all(map(np.isfinite, rents)) else None,
    }
    out: Json = {
        **head(model, step.how, machine),
        "layout": layout_dict(step.layout),
        "stages": [
            {"machine": s.system.name, "title": s.system.device.title, "layers": s.layers, "seconds": s.seconds,
             "peak": float(np.asarray(s.memory.peak)), "capacity": float(np.asarray(s.memory.capacity))}
            for s in step.stages
        ],
        "seconds": step.time,
        "interval": [step.time * x for x in step.how.interval],
        "parts": dict(step.parts),
        "tokens_per_s": step.tokens,
        "mfu": step.mfu,
        "memory": {
            "parts": {k: float(np.asarray(v)) for k, v in memory.parts.items()},
            "peak": float(np.asarray(memory.peak)),
            "capacity": float(np.asarray(memory.capacity)),
            "fits": step.fits,
            "stage": float(fullest),
            "host": float(np.asarray(memory.host)),
            "disk": float(np.asarray(memory.disk)),
        },
        "played_over_summed": 1.0,
        "pipeline": pipeline(step.run),
    }  # fmt: skip
    if tokens:
        took = tokens / step.tokens
        power = sum(float(np.asarray(s.system.power.rated)) * each for s in step.stages)
        rent = out["machine"]["usd_per_hour"]
        out["run"] = {
            "tokens": tokens,
            "seconds": took,
            "device_hours": took / 3600.0 * devices,
            "usd": None if rent is None else rent * took / 3600.0,
            "joules_at_rated_power": power * took,
        }
    return out


def uneven_report(d: Json) -> Report:
    """The report of a layout, with its stages."""
    from dataclasses import replace

    report = described(d)
    columns = (Column("Stage", left=True), Column("device", left=True), Column("layers"), Column("a micro-batch"),
               Column("memory"))  # fmt: skip
    rows = [(str(i), s["title"], f"{s['layers']}", seconds(s["seconds"]), f"{gb(s['peak'])} of {gb(s['capacity'])}")
            for i, s in enumerate(d["stages"])]  # fmt: skip
    busy = [s["seconds"] for s in d["stages"]]
    said = f"The slowest stage works {max(busy) / (sum(busy) / len(busy)):.2f} times as long as the mean."
    stages = ReportSection("Stages", Table(columns, rows), said, element="stages")
    rests = ReportSection("What this rests on", Sentences([
        f"Framework {d['framework']['name']}: {d['framework']['source']}. Its coefficients were fitted to runs whose "
        "stages are all alike.", "The time is that of the pipeline played event by event.",
    ]), element="basis")  # fmt: skip
    sections = {**report.sections, "rests": rests}
    return replace(report, sections={"time": sections.pop("time"), "stages": stages, **sections})


def _full(step: UnevenStep, i: int) -> float:
    m = step.stages[i].memory
    return float(np.asarray(m.peak)) / float(np.asarray(m.capacity))
