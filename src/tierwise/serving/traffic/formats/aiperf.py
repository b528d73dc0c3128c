"""AIPerf's ``profile_export.jsonl``: a line a request, of metadata (clock times in ns) and metrics with their units.

What ran stands in ``profile_export_aiperf.json`` beside it: model names, GPU names where telemetry was on.
Source: https://github.com/ai-dynamo/aiperf, docs/tutorials/working-with-profile-exports.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tierwise.core.errors import TierwiseError
from tierwise.core.jsontext import at, fields, number, text
from tierwise.serving.traffic.bench import ClientRun
from tierwise.serving.traffic.formats._bench import beside, column, named, sessions, traced
from tierwise.serving.traffic.formats._jsonl import has, objects, source
from tierwise.serving.traffic.trace import Trace

NEEDS = ("metadata", "metrics")
SUMMARY = "profile_export_aiperf.json"
_UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0}
NS = 1e-9


def sniff(path: Path, head: str) -> bool:
    """Whether it is such lines, or the summary beside them (which holds no requests)."""
    return (has(head, *NEEDS) and '"request_start_ns"' in head) or _summary(head)


def read(path: Path) -> Trace:
    """Every request that was answered; turns of a session follow each other."""
    return traced(bench(path))


def bench(path: Path) -> ClientRun:
    """The requests of a run; those of warm-up are left out.

    Raises:
        TierwiseError: a summary without its requests; no line that is a request.
    """
    lines = source(path)
    if isinstance(lines[0], str) and _summary("\n".join(lines[:200])):
        raise TierwiseError(f"{path}: is a summary; the requests are in profile_export.jsonl beside it")
    rows, places, broken = [], [], []
    for i, row, why in objects(lines):
        if row is None or not isinstance(row.get("metadata"), dict):
            broken.append((i, why or "no metadata of a request"))
        elif named(row, ("metadata", "benchmark_phase")) != "warmup":
            rows.append(row)
            places.append(i)
    if not rows:
        why = f"line {broken[0][0]}: {broken[0][1]}" if broken else "only warm-up"
        raise TierwiseError(f"{path}: no line is a request; {why}")
    # Counted from the first: clocks of nanoseconds since 1970 have more digits than a float.
    start = [at(r, "metadata", "request_start_ns") for r in rows]
    origin = min((s for s in start if type(s) is int), default=0)
    arrival = column([s - origin if type(s) is int else s for s in start]) * NS
    failed = np.array([bool(r.get("error")) or at(r, "metadata", "was_cancelled") is True for r in rows])
    session = sessions([named(r, ("metadata", "x_correlation_id")) for r in rows],
                       [number(at(r, "metadata", "turn_index")) for r in rows])  # fmt: skip
    about = beside(path, SUMMARY)
    gpus = _gpus(about)
    return ClientRun(
        path, arrival, _metric(rows, "input_sequence_length"), _metric(rows, "output_sequence_length"),
        arrival + _metric(rows, "time_to_first_token"), arrival + _metric(rows, "request_latency"), failed,
        np.array(places, np.int64), "line", broken=tuple(broken), session=session,
        closed=_closed(about), model=named(about, ("input_config", "endpoint", "model_names", 0)),
        machine=gpus[0] if gpus else "", count=len(gpus),
    )  # fmt: skip


def _metric(rows: list[dict[str, Any]], name: str) -> Any:
    """A metric of each request (n,), times in seconds."""
    value = column([at(r, "metrics", name, "value") for r in rows])
    return value * np.array([_UNITS.get(text(at(r, "metrics", name, "unit")), 1.0) for r in rows])


def _closed(about: Any) -> int:
    mode = named(about, ("input_config", "loadgen", "request_rate_mode"))
    kept = number(at(about, "input_config", "loadgen", "concurrency"))
    return int(kept) if mode == "concurrency_burst" and 1 <= kept < 2**31 else 0


def _gpus(about: Any) -> list[str]:
    """Names of the GPUs that telemetry saw."""
    endpoints = fields(at(about, "telemetry_data", "endpoints")).values()
    gpus = [g for e in endpoints for g in fields(at(e, "gpus")).values()]
    return [name for g in gpus if (name := named(g, ("gpu_name",)))]


def _summary(head: str) -> bool:
    return head.lstrip().startswith("{") and '"input_config"' in head and '"request_throughput"' in head
