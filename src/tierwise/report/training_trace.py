"""The pipeline of a training step for trace viewers: Chrome Trace Event JSON, a thread a stage."""

from __future__ import annotations

from typing import Any

from tierwise.training.pipeline import Played

Json = dict[str, Any]


def perfetto(run: Played) -> Json:
    """The trace, ready for ``json.dump``; times in microseconds."""
    made, timeline = run.order, run.timeline
    lanes = {name: i for i, name in enumerate(made.lanes, start=1)}
    rows: list[Json] = [{"ph": "M", "name": "process_name", "pid": 1, "args": {"name": "pipeline"}}]
    for name, i in lanes.items():
        rows.append({"ph": "M", "name": "thread_name", "pid": 1, "tid": i, "args": {"name": name}})
    for e in timeline.events:
        rows.append(
            {
                "ph": "X",
                "pid": 1,
                "tid": lanes[e.lane],
                "name": f"{made.ops[e.op]} of micro-batch {e.turn}",
                "ts": e.start * 1e6,
                "dur": (e.end - e.start) * 1e6,
            }
        )
    return {"traceEvents": rows, "displayTimeUnit": "ms"}
