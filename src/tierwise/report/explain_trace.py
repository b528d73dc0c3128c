"""A timeline for trace viewers: Chrome Trace Event JSON, which Perfetto opens.

One process per phase holds one pass (a decode step, one pass of prefill) on one device, with a thread for
each lane (the device, the link, the host, copies), and counters of how much of the memory bandwidth is in use.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tierwise.report.explain_data import scalar_dict
from tierwise.report.explain_phases import seconds_of
from tierwise.report.timeline import Execution, executions
from tierwise.result import Phase, Result

Json = dict[str, Any]

# Threads that every phase has; another lane of a schedule gets the next number.
THREADS = {"device": 1, "link": 2, "host": 3}


def perfetto(result: Result, data: Json | None = None) -> Json:
    """The trace, ready for ``json.dump``. Times are microseconds, each phase's from its own start.

    Args:
        data: the result's JSON form, where the caller has it already.

    Raises:
        TierwiseError: the result is a sweep.
    """
    d = data or scalar_dict(result, "trace")
    rows: list[Json] = []
    for pid, phase in enumerate(result.phases, start=1):
        runs = executions(phase)
        threads = _threads(runs)
        rows += [*_names(pid, phase, threads), *_spans(pid, phase, runs, threads),
                 *_counters(pid, phase, runs, result)]  # fmt: skip
    return {
        "traceEvents": rows,
        "displayTimeUnit": "ms",
        "otherData": {"headline": d["text"]["headline"], "basis": d["basis"]},
    }


def _threads(runs: Sequence[Execution]) -> dict[str, int]:
    names = list(dict.fromkeys([*THREADS, *(x.lane for x in runs)]))
    return {name: i for i, name in enumerate(names, start=1)}


def _names(pid: int, phase: Phase, threads: dict[str, int]) -> Iterator[Json]:
    unit = "step" if phase.name == "decode" else "pass"
    passes = float(phase.passes)
    label = f"{phase.name}: one {unit}" + (f" of {passes:,.0f}" if passes != 1 else "")
    yield {"ph": "M", "name": "process_name", "pid": pid, "args": {"name": label}}
    yield {"ph": "M", "name": "process_sort_index", "pid": pid, "args": {"sort_index": pid}}
    for name, tid in threads.items():
        yield {"ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "args": {"name": name}}
        yield {"ph": "M", "name": "thread_sort_index", "pid": pid, "tid": tid, "args": {"sort_index": tid}}


def _spans(pid: int, phase: Phase, runs: Sequence[Execution], threads: dict[str, int]) -> Iterator[Json]:
    for x in runs:
        role, about = "host", {"layer": x.layer, "bound by": x.bound_by, "flops": 0.0, "bytes": {}}
        if x.op is not None:
            op, cost = phase.ops[x.op].op, phase.ops[x.op].cost
            role, about = op.role, about | {
                "kind": op.kind,
                "flops": float(cost.flops),
                "bytes": {tier: float(size) for tier, size in cost.bytes.items()},
                "seconds": {name: float(t) for name, t in seconds_of(cost).items()},
            }
        yield {"ph": "X", "name": x.name, "cat": role, "pid": pid, "tid": threads[x.lane], "ts": x.start * 1e6,
               "dur": x.duration * 1e6, "args": about}  # fmt: skip


def _counters(pid: int, phase: Phase, runs: Sequence[Execution], result: Result) -> Iterator[Json]:
    """Share of the memory bandwidth that the ops running at each moment use, evenly over their time."""
    memory = result.scenario.machine.device.memory
    changes: dict[float, float] = {0.0: 0.0}
    for x in runs:
        moved = 0.0 if x.op is None else float(phase.ops[x.op].cost.bytes.get(memory.name, 0.0))
        if moved > 0 and x.duration > 0:
            end, rate = x.start + x.duration, moved / x.duration
            changes[x.start] = changes.get(x.start, 0.0) + rate
            changes[end] = changes.get(end, 0.0) - rate
    rate = 0.0
    for at in sorted(changes):
        rate += changes[at]
        yield _count(pid, f"{memory.name} bandwidth, %", at, max(100.0 * rate / memory.bandwidth, 0.0))


def _count(pid: int, name: str, at: float, value: float) -> Json:
    return {"ph": "C", "name": name, "pid": pid, "ts": at * 1e6, "args": {"used": round(value, 3)}}
