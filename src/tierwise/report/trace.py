"""A timeline for trace viewers: Chrome Trace Event JSON, which Perfetto opens.

One process per phase holds one pass (a decode step, one pass of prefill) on one device, with a thread for
compute and one for communication, and counters of how much of the memory bandwidth is in use.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tierwise.cost.types import Cost
from tierwise.program.types import Op
from tierwise.report.data import scalar_dict
from tierwise.result import Phase, Result
from tierwise.schedule.streams import events

Json = dict[str, Any]

THREADS = {"compute": 1, "link": 2}


def perfetto(result: Result) -> Json:
    """The trace, ready for ``json.dump``. Times are microseconds, each phase's from its own start.

    Raises:
        TierwiseError: the result is a sweep.
    """
    d = scalar_dict(result, "trace")
    rows: list[Json] = []
    for pid, phase in enumerate(result.phases, start=1):
        rows += _names(pid, phase)
        rows += _spans(pid, phase)
        rows += _counters(pid, phase, result)
    return {
        "traceEvents": rows,
        "displayTimeUnit": "ms",
        "otherData": {"headline": d["text"]["headline"], "basis": d["basis"]},
    }


def timeline(phase: Phase) -> list[tuple[Json, Op, Cost]]:
    """Every execution of one pass: its event (see :func:`tierwise.schedule.streams.events`), op and cost."""
    order = _order(phase)
    rows = events(order, phase.behind)
    pairs = [pair for _, ops, costs in order for pair in zip(ops, costs, strict=True)]
    return [(row, op, cost) for row, (op, cost) in zip(rows, pairs, strict=True)]


def _order(phase: Phase) -> list[tuple[str, Sequence[Op], Sequence[Cost]]]:
    """(name, ops, costs) of each layer as executed; equal layers are numbered."""
    costs = {segment.name: [p.cost for p in priced] for segment, priced in phase.by_segment()}
    seen: dict[int, int] = {}
    out: list[tuple[str, Sequence[Op], Sequence[Cost]]] = []
    for i in phase.graph.order:
        segment = phase.graph.segments[i]
        number = seen.get(i, 0)
        seen[i] = number + 1
        alone = phase.graph.order.count(i) == 1
        out.append((segment.name if alone else f"{segment.name} {number}", segment.ops, costs[segment.name]))
    return out


def _names(pid: int, phase: Phase) -> Iterator[Json]:
    unit = "step" if phase.name == "decode" else "pass"
    passes = float(phase.passes)
    label = f"{phase.name}: one {unit}" + (f" of {passes:,.0f}" if passes != 1 else "")
    yield {"ph": "M", "name": "process_name", "pid": pid, "args": {"name": label}}
    yield {"ph": "M", "name": "process_sort_index", "pid": pid, "args": {"sort_index": pid}}
    for name, tid in THREADS.items():
        yield {"ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "args": {"name": name}}
        yield {"ph": "M", "name": "thread_sort_index", "pid": pid, "tid": tid, "args": {"sort_index": tid}}


def _spans(pid: int, phase: Phase) -> Iterator[Json]:
    for row, op, cost in timeline(phase):
        parts = {**cost.overlapped, **cost.serial}
        yield {
            "ph": "X",
            "name": row["name"],
            "cat": row["role"],
            "pid": pid,
            "tid": THREADS[str(row["stream"])],
            "ts": row["start"] * 1e6,
            "dur": row["duration"] * 1e6,
            "args": {
                "layer": row["layer"],
                "kind": op.kind,
                "bound by": row["bound_by"],
                "flops": float(cost.flops),
                "bytes": {tier: float(size) for tier, size in cost.bytes.items()},
                "seconds": {name: float(t) for name, t in parts.items()},
            },
        }


def _counters(pid: int, phase: Phase, result: Result) -> Iterator[Json]:
    """Share of the memory bandwidth each op of the compute thread uses while it runs."""
    memory = result.scenario.machine.device.memory
    name = f"{memory.name} bandwidth, %"
    end = 0.0
    for row, _, cost in timeline(phase):
        if row["stream"] != "compute":
            continue
        start, duration = row["start"], row["duration"]
        if start > end:
            yield _count(pid, name, end, 0.0)
        rate = float(cost.bytes.get(memory.name, 0.0)) / duration if duration > 0 else 0.0
        yield _count(pid, name, start, 100.0 * rate / memory.bandwidth)
        end = start + duration
    yield _count(pid, name, end, 0.0)


def _count(pid: int, name: str, at: float, value: float) -> Json:
    return {"ph": "C", "name": name, "pid": pid, "ts": at * 1e6, "args": {"used": round(value, 3)}}
