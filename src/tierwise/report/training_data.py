"""A training step, or a plan of one, as plain data: what its JSON holds and its pages draw."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

import numpy as np

from tierwise.core.errors import TierwiseError
from tierwise.machines.types import System
from tierwise.models.types import Model
from tierwise.report.made import made_by
from tierwise.report.plain import plain
from tierwise.search.train import TrainPlan, confirmed
from tierwise.training.checkpoint import checkpoint, consolidated, copied
from tierwise.training.goodput import Reliability, goodput
from tierwise.training.layout import RECOMPUTE, Layout, pipelines
from tierwise.training.offload import OFFLOAD
from tierwise.training.pipeline import Played, played, span
from tierwise.training.recipe import TrainingFramework
from tierwise.training.reserved import fragmented
from tierwise.training.step import TrainStep

Json = dict[str, Any]

# Executions that a page holds for the picture of a pipeline (some 30 bytes each), and pixels can still tell apart.
MOST_EVENTS = 60_000
# Vendors of devices whose memory PyTorch's caching allocator holds.
_ALLOCATED = ("NVIDIA", "AMD")


def to_dict(
    step: TrainStep,
    model: Model,
    system: System,
    tokens: float | None = None,
    events: bool = False,
    fails: Reliability | None = None,
    picture: bool = True,
) -> tuple[Json, Played]:
    """One layout, and its pipeline, which is played once.

    Args:
        tokens: of the whole run, where it is to be said how long that takes.
        events: every execution is asked for, however many there are.
        fails: what fails during the run.
        picture: a picture of the pipeline is asked for, where its executions can be told apart.
    """
    ratio, run = confirmed(step, events or (picture and tells_apart(step)))
    one = _one(step, ratio)
    one["memory"]["reserved"] = _reserved(step, model, system)
    return {**one, **_about(model, system, step, one, tokens, fails), "pipeline": pipeline(run)}, run


def planned(
    answer: TrainPlan,
    model: Model,
    system: System,
    tokens: float | None = None,
    events: bool = False,
    fails: Reliability | None = None,
    picture: bool = True,
) -> tuple[Json, Played | None]:
    """A plan: the layouts by time, and how many there were; and the pipeline of the fastest."""
    rows = [_one(c.step, c.played) for c in answer.candidates]
    if rows:
        rows[0]["memory"]["reserved"] = _reserved(answer.candidates[0].step, model, system)
    some = answer.candidates[0].step if answer.candidates else answer.tightest
    assert some is not None
    run = None
    if answer.candidates and (events or (picture and tells_apart(some))):
        run = played(some.layout, some.stages, events=True)
    return {
        "candidates": rows,
        "searched": {
            "legal": answer.legal,
            "fitting": answer.fitting,
            "seconds": answer.seconds,
            "ranked": answer.ranked,
        },
        "without_limit": None if answer.unlimited is None else _one(answer.unlimited, 1.0),
        "tricks": [{"what": t.what, "gain": t.gain, "fits": t.fits} for t in answer.tricks],
        "tightest": None if answer.tightest is None else _one(answer.tightest, 1.0),
        **_about(model, system, some, rows[0] if rows else _one(some, 1.0), tokens, fails),
        "pipeline": None if run is None else pipeline(run),
    }, run


def _about(
    model: Model, system: System, step: TrainStep, one: Json, tokens: float | None, fails: Reliability | None
) -> Json:
    machine = {"name": system.name, "title": system.device.title, "devices": float(system.count),
               "usd_per_hour": _rent(system)}  # fmt: skip
    out = head(model, step.how, machine)
    share = 1.0
    if fails is not None:
        found = goodput(fails, float(system.count), checkpoint(step, model), copied(system, step, model))
        share = found.share
        out["goodput"] = asdict(found)
        if np.isfinite(fails.storage):
            size, took = consolidated(step, model, fails.storage)
            out["goodput"]["consolidated"] = {"size": size, "seconds": took}
    if tokens:
        seconds = tokens / one["tokens_per_s"] / share
        hours = seconds / 3600.0
        rent = out["machine"]["usd_per_hour"]
        power = float(np.asarray(system.power.rated)) * system.count
        out["run"] = {
            "tokens": tokens,
            "seconds": seconds,
            "device_hours": hours * system.count,
            "usd": None if rent is None else rent * hours,
            "joules_at_rated_power": power * seconds,
        }
    return out


def head(model: Model, how: TrainingFramework, machine: Json) -> Json:
    """What every answer about training begins with."""
    return {
        "schema": "tierwise.training/1",
        "made_by": made_by(),
        "model": {
            "name": model.name,
            "parameters": float(np.asarray(model.parameters)),
            "max_context": plain(model.max_context),
        },
        "machine": machine,
        "framework": {
            "name": how.name,
            "source": how.source,
            "precision": how.recipe.precision,
            "optimizer": how.recipe.optimizer,
            "rank": how.recipe.rank,
        },
    }


def _rent(system: System) -> float | None:
    """Dollars an hour of the whole machine; None where nobody says."""
    value = float(np.asarray(system.rent(system.count)))
    return value * 3600.0 if np.isfinite(value) else None


def _one(step: TrainStep, ratio: float) -> Json:
    """Of a step whose pipeline takes ``ratio`` times as long as its closed form says."""
    parts = {k: _number(v) for k, v in step.parts.items()}
    if abs(ratio - 1.0) > 1e-9:  # more than rounding
        parts["bubble"] += (ratio - 1.0) * _number(span(step.layout, step.stages))
    seconds = sum(parts.values())
    slower = seconds / _number(step.time)
    return {
        "layout": layout_dict(step.layout),
        "seconds": seconds,
        "interval": [_number(x) * slower for x in step.interval],
        "parts": parts,
        "tokens_per_s": _number(step.tokens) / slower,
        "mfu": _number(step.mfu) / slower,
        "memory": {
            "parts": {k: _number(v) for k, v in step.memory.parts.items()},
            "peak": _number(step.memory.peak),
            "capacity": _number(step.memory.capacity),
            "fits": bool(step.memory.fits),
            "stage": _number(step.memory.stage),
            "host": _number(step.memory.host),
            "disk": _number(step.memory.disk),
        },
        "played_over_summed": ratio,
    }


def _reserved(step: TrainStep, model: Model, system: System) -> float | None:
    """Bytes that PyTorch's allocator takes from the driver, fragments included; None where nothing is known of it."""
    if system.device.vendor not in _ALLOCATED:
        return None
    unfused = any(np.any(np.asarray(piece.scores) > 0) for piece, _ in step.work.layers)
    try:
        return _number(step.memory.peak) + fragmented(model, step.layout, step.how, not unfused)
    except TierwiseError:
        return None


def layout_dict(x: Layout) -> Json:
    """Degrees and sizes as numbers, recomputation by name."""
    out: Json = {f.name: _number(getattr(x, f.name)) for f in fields(x) if np.isfinite(_number(getattr(x, f.name)))}
    out["recompute"] = RECOMPUTE[int(out["recompute"])]
    out["offload"] = OFFLOAD[int(out["offload"])]
    out["schedule"] = pipelines()[int(out["schedule"])]
    out["micro_batches"] = _number(x.micro_batches)
    return out


def tells_apart(step: TrainStep) -> bool:
    """Whether a picture of the pipeline still shows its executions apart."""
    x = step.layout
    count = _number(x.pp) * _number(step.stages.passes.parts) * _number(x.micro_batches) * 2.0
    return count <= MOST_EVENTS and _number(x.pp) > 1


def pipeline(run: Played) -> Json | None:
    """Executions of the pipeline as [lane, op, micro-batch, start, duration] (indexes, and seconds), for a picture;
    None of one execution, and of more than can be told apart."""
    if not 1 < len(run.events) <= MOST_EVENTS:
        return None
    lanes = {name: i for i, name in enumerate(dict.fromkeys(e.lane for e in run.events))}
    rows = [[lanes[e.lane], e.op, e.turn, float(f"{e.start:.9g}"), float(f"{e.end - e.start:.6g}")] for e in run.events]
    return {"lanes": list(lanes), "ops": list(run.order.ops), "rows": rows}


def _number(x: object) -> float:
    return float(np.asarray(x))
