"""A timeline of a simulation for trace viewers: Chrome Trace Event JSON, which Perfetto opens.

One process a replica with its logged steps; one for requests, each a row of queue, prefill and decode; counters of
what runs, waits and fills the memory. Bounded in size whatever the trace: the first requests, and averaged counters.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite
from typing import Any

import numpy as np

from tierwise.report.serving_data import series_dict, to_dict
from tierwise.serving.outcome import DONE, REJECTED, SimulatedRun

Json = dict[str, Any]

# Requests shown one by one.
REQUESTS = 2000
_CLUSTER, _REQUESTS, _REPLICAS = 1, 2, 3
_COUNTERS = (
    ("requests", ("running", "waiting"), 1.0),
    ("KV memory, %", ("kv",), 100.0),
    ("tokens a second", ("prompt_tokens", "output_tokens"), 1.0),
    ("busy, %", ("compute", "memory", "link"), 100.0),
    ("replicas", ("replicas",), 1.0),
)


def perfetto(run: SimulatedRun) -> Json:
    """The trace, ready for ``json.dump``. Times are microseconds from the start of the simulation."""
    rows = [*_names(run), *_counters(run), *_steps(run), *_requests(run)]
    return {
        "traceEvents": rows,
        "displayTimeUnit": "ms",
        "otherData": {"headline": to_dict(run)["text"]["headline"], "shown": shown(run)},
    }


def shown(run: SimulatedRun) -> str:
    """What of the run is on the timeline, for people."""
    steps, total = len(run.steps.start), run.totals.get("steps", len(run.steps.start))
    requests = min(REQUESTS, len(run.trace))
    return f"the first {steps:,} of {total:,.0f} steps and {requests:,} of {len(run.trace):,} requests"


def _names(run: SimulatedRun) -> Iterator[Json]:
    names = {_CLUSTER: "all replicas", _REQUESTS: f"requests, the first {min(REQUESTS, len(run.trace)):,}"}
    group = [(g, i) for g in run.deployment.groups for i in range(g.count)]
    for replica in np.unique(run.steps.replica).tolist():
        role = group[replica][0].role if replica < len(group) else "both"
        names[_REPLICAS + replica] = f"replica {replica}" + ("" if role == "both" else f", {role}")
    for pid, name in names.items():
        yield {"ph": "M", "name": "process_name", "pid": pid, "args": {"name": name}}
        yield {"ph": "M", "name": "process_sort_index", "pid": pid, "args": {"sort_index": pid}}


def _counters(run: SimulatedRun) -> Iterator[Json]:
    s = series_dict(run.series)
    # A bin's mean holds from its start, which is the end of the one before.
    start = [0.0, *s["time"]][: len(s["time"])]
    for name, keys, factor in _COUNTERS:
        for i, at in enumerate(start):
            values = {k: round((s[k][i] or 0.0) * factor, 3) for k in keys}
            yield {"ph": "C", "name": name, "pid": _CLUSTER, "ts": at * 1e6, "args": values}


def _steps(run: SimulatedRun) -> Iterator[Json]:
    """Steps of a pipeline overlap: each goes to the first lane that is free."""
    s = run.steps
    lanes: dict[int, list[float]] = {}
    columns = (s.replica, s.start, s.end, s.decoding, s.prompt_tokens)
    for replica, start, end, decoding, prompt in zip(*(c.tolist() for c in columns), strict=True):
        free = lanes.setdefault(replica, [])
        lane = next((i for i, t in enumerate(free) if t <= start + 1e-12), len(free))
        free[lane : lane + 1] = [end]
        parts = ([f"decode {decoding}"] if decoding else []) + ([f"prefill {prompt:,}"] if prompt else [])
        kind = "mixed" if decoding and prompt else "prefill" if prompt else "decode"
        yield {
            "ph": "X", "name": " + ".join(parts) or "step", "cat": kind, "pid": _REPLICAS + replica, "tid": lane,
            "ts": start * 1e6, "dur": (end - start) * 1e6,
            "args": {"sequences decoding": decoding, "prompt tokens": prompt},
        }  # fmt: skip


def _requests(run: SimulatedRun) -> Iterator[Json]:
    """Async slices, nested: the request, and in it queue, prefill, decode; what never came to an end has none."""
    r, t = run.requests, run.trace
    end = run.totals.get("end", float(np.nanmax(r.last, initial=0.0)))
    n = min(REQUESTS, len(t))
    columns = (r.arrival, r.scheduled, r.first, r.last, t.prompt, t.output, r.made, r.cached, r.preempted, r.replica,
               r.state, t.tenant)  # fmt: skip
    for i, row in enumerate(zip(*(c[:n].tolist() for c in columns), strict=True)):
        arrival, scheduled, first, last, prompt, output, made, cached, preempted, replica, state, tenant = row
        if not arrival <= end:
            continue
        if state == REJECTED:
            yield {"ph": "i", "s": "p", "name": f"rejected request {i}", "cat": "request", "pid": _REQUESTS, "tid": 0,
                   "ts": arrival * 1e6, "args": {"prompt": prompt, "output": output}}  # fmt: skip
            continue
        whole = last if state == DONE else end
        marks = [arrival, *(x for x in (scheduled, first) if isfinite(x)), whole]
        about = {"prompt": prompt, "tokens": made, "found in cache": cached, "preempted": preempted,
                 "replica": replica, "tenant": t.tenants[tenant]}  # fmt: skip
        begin, finish = _slice(f"request {i}", i, arrival, whole, about)
        yield begin
        for name, a, b in zip(("queue", "prefill", "decode"), marks[:-1], marks[1:], strict=False):
            if b > a:
                yield from _slice(name, i, a, b)
        yield finish


def _slice(name: str, i: int, start: float, end: float, args: Json | None = None) -> tuple[Json, Json]:
    common = {"cat": "request", "id": i, "pid": _REQUESTS, "tid": 0, "name": name}
    begin = {"ph": "b", "ts": start * 1e6, **common, "args": args or {}}
    return begin, {"ph": "e", "ts": end * 1e6, **common}
