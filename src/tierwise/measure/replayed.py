"""A recorded run of an engine, played again by the simulator and held beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tierwise.measure.ran import deployment
from tierwise.measure.recorded import Recorded, is_run, times
from tierwise.serving.deployment import Deployment
from tierwise.serving.outcome import SimulatedRun
from tierwise.serving.pricing import corrections_of, step_prices
from tierwise.steps.corrections import Corrections

Floats = NDArray[np.float64]

STATISTICS = ("mean", "median", "p90", "p95", "p99")
_QUANTILES = (0.5, 0.9, 0.95, 0.99)


@dataclass(frozen=True)
class ReplayedRun:
    """A recorded run beside its replay.

    Attributes:
        measured, predicted: seconds by quantity (TTFT, TPOT, latency), in the order of ``STATISTICS``.
        series: by name (running, waiting, kv), what was reported and what was simulated at the same times.
        at: those times, seconds from the first arrival.
    """

    recorded: Recorded
    run: SimulatedRun
    adjustment: Corrections
    measured: Mapping[str, Floats]
    predicted: Mapping[str, Floats]
    at: Floats
    series: Mapping[str, tuple[Floats, Floats]]

    def error(self, quantity: str) -> Floats:
        """Relative errors, signed."""
        return np.asarray(self.predicted[quantity] / self.measured[quantity] - 1.0)


def runs_in(path: Path) -> list[Path]:
    """The runs that a path stands for: itself, or those inside a folder that is none (folders, else files)."""
    if (path / "requests.jsonl").exists() or not path.is_dir():
        return [path]
    folders = sorted(p.parent for p in path.glob("*/requests.jsonl"))
    return folders or [p for p in sorted(path.glob("*.json*")) if is_run(p)] or [path]


def compare(recorded: Recorded, on: str = "", adjust: Corrections | None = None) -> ReplayedRun:
    """Play a recorded run's arrivals and lengths against what ran, and set the outcome beside it.

    Args:
        on: machine, where the folder does not name it.
        adjust: what another run on that machine found; None for what is known of the engine alone.
    """
    served = deployment(recorded, on)
    used = adjust if adjust is not None else corrections_of(served)
    run = replay(recorded, served, used)
    q = run.requests
    replayed = times(q.arrival, q.first, q.last, recorded.output)
    return ReplayedRun(
        recorded, run, used,
        {name: statistics(x) for name, x in recorded.times.items()},
        {name: statistics(x) for name, x in replayed.items()},
        *_over_time(recorded, run),
    )  # fmt: skip


def replay(recorded: Recorded, served: Deployment, adjust: Corrections) -> SimulatedRun:
    """The simulator's run. What lies between engine and client counts only where the client took the times."""
    from tierwise.serving.simulate import simulate

    seen = replace(adjust, request=0.0) if recorded.inside else adjust
    prices = [step_prices(served.model, g, seen) for g in served.groups]
    kwargs = recorded.meta.get("engine_kwargs") or {}
    if kwargs.get("async_scheduling") is False:
        prices = [replace(p, ahead=0) for p in prices]
    return simulate(recorded.trace, served, prices)


def statistics(x: Floats) -> Floats:
    """Mean, median and quantiles; nan of nothing."""
    x = x[np.isfinite(x)]
    return np.asarray([x.mean(), *np.quantile(x, _QUANTILES)]) if len(x) else np.full(len(STATISTICS), np.nan)


def _over_time(recorded: Recorded, run: SimulatedRun) -> tuple[Floats, dict[str, tuple[Floats, Floats]]]:
    """Means over the recording's own intervals; a column that was never above zero was not recorded."""
    t = recorded.series.get("t", np.zeros(0))
    out: dict[str, tuple[Floats, Floats]] = {}
    edges = np.concatenate([[0.0], run.series.time])
    for name, column, scale in (("running", "running", 1.0), ("waiting", "waiting", 1.0), ("kv", "kv_cache_pct", 0.01)):
        measured = recorded.series.get(column)
        if measured is None or not np.any(measured > 0):
            continue
        summed = np.concatenate([[0.0], np.cumsum(getattr(run.series, name) * np.diff(edges))])
        start = np.concatenate([[0.0], t[:-1]])
        # Engines report what holds at the moment; a mean over a tenth of the interval before stands for it.
        from_ = t - 0.1 * (t - start)
        simulated = (np.interp(t, edges, summed) - np.interp(from_, edges, summed)) / np.maximum(t - from_, 1e-9)
        out[name] = (measured * scale, simulated)
    return t, out


def data(c: ReplayedRun) -> dict[str, Any]:
    """The comparison as plain data."""

    def numbers(x: Floats) -> dict[str, float | None]:
        return {k: float(v) if math.isfinite(v) else None for k, v in zip(STATISTICS, x, strict=True)}

    group = c.run.deployment.groups[0]
    return {
        "run": c.recorded.folder.name,
        "model": c.run.deployment.model.name,
        "machine": group.machine.device.name,
        "devices": c.run.deployment.devices,
        "requests": len(c.recorded.arrival),
        "basis": c.adjustment.basis,
        "source": c.adjustment.source,
        "quantities": {
            name: {"measured": numbers(c.measured[name]), "predicted": numbers(c.predicted[name]),
                   "error": numbers(c.error(name))}
            for name in c.measured
        },
        "over_time": {
            "t": c.at.tolist(),
            **{name: {"measured": a.tolist(), "predicted": b.tolist()} for name, (a, b) in c.series.items()},
        },
        "notices": list(c.recorded.notices),
    }  # fmt: skip
