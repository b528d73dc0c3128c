"""The JSON form of a simulation: every number a report shows, in SI units, bounded in size whatever the trace.

The terminal and the HTML page are written from it. ``docs/json.md`` says how the other forms look.
"""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tierwise.report import serving_words as words
from tierwise.report.explain_data import plan_differs
from tierwise.report.made import made_by
from tierwise.report.plain import plain
from tierwise.serving.deployment import Deployment, Replicas
from tierwise.serving.fairness import Fairness
from tierwise.serving.metrics import Metrics, histogram_quantiles, metrics, spread, times
from tierwise.serving.outcome import DONE, Series, SimulatedRun
from tierwise.serving.traffic.trace import Trace

SCHEMA = "tierwise.simulation/1"
# Points of a time series and of a distribution: more than a screen can show.
BINS = 400
SHARES = np.unique(np.concatenate([np.linspace(0.0, 1.0, 201), [0.999, 0.9999]]))

Json = dict[str, Any]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def to_dict(run: SimulatedRun, ttft: float | None = None, tpot: float | None = None) -> Json:
    """A run in plain JSON types; what is not finite or not known is null.

    Args:
        ttft, tpot: targets in seconds; None asks for nothing.
    """
    m = metrics(run, ttft, tpot)
    out: Json = {
        "schema": SCHEMA,
        "made_by": made_by(),
        "deployment": _deployment(run.deployment),
        "traffic": _traffic(run.trace),
        "targets": {"ttft_s": plain(ttft), "tpot_s": plain(tpot)},
        "interrupted": run.interrupted,
        "metrics": _metrics(m),
        "times": {f"{k}_s": plain(asdict(getattr(m, k))) for k in ("queueing", "ttft", "tpot", "itl", "latency")},
        "load": plain(asdict(m.load)) | {"last_arrival": _last_arrival(run)},
        "reasons": plain(dict(m.reasons)),
        "tenants": _tenants(m.fairness),
        "series": series_dict(run.series) | _flow(run),
        "peaks": _peaks(run.series),
        "cdf": _cdf(run),
        "totals": plain(dict(m.totals)) | {"wall_s": plain(run.wall)},
        "basis": run.basis,
        "interval": plain(run.interval),
        "text": None,
    }
    out["text"] = {"headline": words.headline(out), "why": words.why(out)}
    return out


def _last_arrival(run: SimulatedRun) -> float | None:
    arrival = run.requests.arrival[np.isfinite(run.requests.arrival)]
    return float(arrival.max()) if len(arrival) else None


def _metrics(m: Metrics) -> Json:
    names = {
        "requests": m.requests, "done": m.done, "rejected": m.rejected, "unfinished": m.unfinished, "span_s": m.span,
        "ttft_met": m.ttft_met, "tpot_met": m.tpot_met, "good_share": m.good_share, "goodput_per_s": m.goodput,
        "requests_per_s": m.request_rate, "prompt_tokens_per_s": m.prompt_rate, "output_tokens_per_s": m.output_rate,
        "batch": m.batch, "batch_max": m.batch_max, "waiting": m.waiting, "waiting_max": m.waiting_max,
        "kv": m.kv, "kv_max": m.kv_max, "fragmentation": m.fragmentation, "preemptions": m.preemptions,
        "preempted": m.preempted, "hit_rate": m.hit_rate, "accepted": m.accepted, "compute": m.compute,
        "memory": m.memory, "link": m.link, "tokens_per_joule": m.tokens_per_joule, "energy_j": m.energy,
        "tokens_per_usd": m.tokens_per_dollar, "usd_per_million": m.usd_per_million, "rent_usd": m.rent,
        "jain": m.fairness.jain,
    }  # fmt: skip
    return {k: plain(v) for k, v in names.items()}


def _deployment(d: Deployment) -> Json:
    return {
        "model": d.model.name,
        "groups": [_group(g) for g in d.groups],
        "router": d.router,
        "autoscaler": d.autoscaler,
        "startup_s": plain(d.startup),
        "pooled": d.pooled,
        "failures": [[plain(x) for x in f] for f in d.failures],
        "devices": d.devices,
        "usd_per_hour": plain(d.rent * 3600.0),
    }


def _group(g: Replicas) -> Json:
    settings = {f.name: plain(getattr(g.settings, f.name)) for f in fields(g.settings) if f.name != "speculation"}
    speculation = {k: plain(v) for k, v in asdict(g.settings.speculation).items()}
    return {
        "device": g.machine.device.title,
        "machine": g.machine.name,
        "devices": plain(g.plan.devices),
        "count": g.count,
        "role": g.role,
        "plan": plan_differs(g.plan),
        "settings": settings | {"speculation": speculation},
    }


def _traffic(t: Trace) -> Json:
    return {
        "source": t.source,
        "notices": list(t.notices),
        "requests": len(t),
        "duration_s": plain(t.duration),
        "rate_per_s": plain(t.rate),
        "closed_loop": plain(t.closed_loop),
        "tenants": len(t.tenants),
        "prompt": plain(asdict(spread(t.prompt.astype(np.float64)))),
        "output": plain(asdict(spread(t.output.astype(np.float64)))),
    }


def _tenants(f: Fairness) -> list[Json]:
    """A row a tenant, those with most service first."""
    columns = {
        "requests": f.requests, "done": f.done, "rejected": f.rejected, "demand_tokens": f.demand,
        "service_tokens": f.service, "fair_tokens": f.fair, "ttft_s": f.ttft, "ttft_p99_s": f.ttft_p99,
        "tpot_s": f.tpot, "latency_s": f.latency, "latency_p99_s": f.latency_p99,
    }  # fmt: skip
    order = np.argsort(-f.service, kind="stable")
    return [{"name": f.tenants[i]} | {k: plain(v[i]) for k, v in columns.items()} for i in order.tolist()]


def series_dict(s: Series) -> Json:
    """The series in at most ``BINS`` bins: means of equally many neighbours (the last may have fewer)."""
    n, start = len(s.time), _starts(s)
    out: Json = {"time": plain(_ends(s))}
    for f in fields(s):
        x = getattr(s, f.name)
        if f.name != "time":
            means = np.add.reduceat(x, start) / np.diff(np.append(start, n)) if n else x
            out[f.name] = [None if not np.isfinite(v) else float(f"{v:.6g}") for v in means.tolist()]
    return out


def _peaks(s: Series) -> Json:
    """The largest of each series, of its own bins."""
    return {
        f.name: plain(np.nanmax(x)) if len(x := getattr(s, f.name)) else None for f in fields(s) if f.name != "time"
    }


def _starts(s: Series) -> Ints:
    """First bin of each group of neighbours shown as one."""
    return np.arange(0, len(s.time), max(1, -(-len(s.time) // BINS)))


def _ends(s: Series) -> Floats:
    """Time at which each shown bin ends."""
    return s.time[np.append(_starts(s)[1:], len(s.time)) - 1] if len(s.time) else s.time


def _flow(run: SimulatedRun) -> Json:
    """Requests per second that arrive and that finish, in the bins of the series."""
    r, ends = run.requests, _ends(run.series)
    if not len(ends):
        return {"arriving": [], "finishing": []}
    edges = np.concatenate([[0.0], ends])
    # The last arrival or token may lie on the very end, or past it by rounding.
    edges[-1] = np.inf
    width = np.diff(np.concatenate([[0.0], ends]))

    def rates(x: Floats) -> list[float]:
        return _rounded(np.histogram(x[np.isfinite(x)], edges)[0] / width)

    return {"arriving": rates(r.arrival), "finishing": rates(r.last[r.state == DONE])}


def _cdf(run: SimulatedRun) -> Json:
    """For each time its quantiles at ``SHARES``."""
    each = times(run)
    named = {"queueing_s": each.queueing, "ttft_s": each.ttft, "tpot_s": each.tpot, "latency_s": each.latency}
    out: Json = {"share": SHARES.tolist()}
    for name, x in named.items():
        finite = x[np.isfinite(x)]
        out[name] = _rounded(np.quantile(finite, SHARES, overwrite_input=True)) if len(finite) else None
    known = run.itl_counts.sum() > 0
    out["itl_s"] = _rounded(histogram_quantiles(run.itl_edges, run.itl_counts, SHARES)) if known else None
    return out


def _rounded(x: Floats) -> list[float]:
    return [float(f"{v:.5g}") for v in x.tolist()]
