"""The trace: valid for a viewer, in order, and as long as the pass."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest

from tierwise.core.errors import TierwiseError
from tierwise.report.explain_trace import THREADS, perfetto

from .cases import SCALAR, result


def spans(trace: dict, pid: int, tid: int | None = None) -> list[dict]:  # type: ignore[type-arg]
    rows = [e for e in trace["traceEvents"] if e["ph"] == "X" and e["pid"] == pid]
    return [e for e in rows if tid is None or e["tid"] == tid]


@pytest.mark.parametrize("kind", SCALAR)
def test_events_have_what_the_format_asks_for(kind: str) -> None:
    trace = perfetto(result(kind))
    assert json.loads(json.dumps(trace, allow_nan=False)) == trace
    for e in trace["traceEvents"]:
        assert isinstance(e["name"], str) and e["ph"] in "XMC" and isinstance(e["pid"], int)
        if e["ph"] == "X":
            assert e["dur"] >= 0 and e["ts"] >= 0 and e["tid"] in THREADS.values()
            assert {"bound by", "flops", "bytes", "layer"} <= set(e["args"])
        elif e["ph"] == "C":
            assert e["ts"] >= 0 and all(0 <= v <= 100.001 for v in e["args"].values())
        else:
            assert e["name"] in ("process_name", "process_sort_index", "thread_name", "thread_sort_index")
    named = {e["pid"] for e in trace["traceEvents"] if e["name"] == "process_name"}
    assert named == set(range(1, len(result(kind).phases) + 1))


@pytest.mark.parametrize("kind", SCALAR)
def test_one_thread_does_one_thing_at_a_time(kind: str) -> None:
    trace = perfetto(result(kind))
    for pid, phase in enumerate(result(kind).phases, start=1):
        for tid in THREADS.values():
            end = 0.0
            for e in spans(trace, pid, tid):
                assert e["ts"] >= end - 1e-6
                end = e["ts"] + e["dur"]
        ops = [e for e in spans(trace, pid) if e["tid"] != THREADS["host"]]
        assert len(ops) == sum(len(s.ops) * s.repeat for s in phase.program.segments)


@pytest.mark.parametrize("kind", [k for k in SCALAR if k != "overlap"])
def test_without_overlap_durations_are_the_pass(kind: str) -> None:
    trace = perfetto(result(kind))
    for pid, phase in enumerate(result(kind).phases, start=1):
        rows = spans(trace, pid)
        assert sum(e["dur"] for e in rows) == pytest.approx(float(phase.pass_time) * 1e6)
        assert max(e["ts"] + e["dur"] for e in rows) == pytest.approx(float(phase.pass_time) * 1e6)


def test_with_overlap_the_link_works_beside_compute() -> None:
    trace = perfetto(result("overlap"))
    for pid, phase in enumerate(result("overlap").phases, start=1):
        rows = spans(trace, pid)
        end = max(e["ts"] + e["dur"] for e in rows)
        assert end < 0.999 * sum(e["dur"] for e in rows)
        assert end == pytest.approx(float(phase.pass_time) * 1e6, rel=0.02)


def test_the_bandwidth_counter_carries_the_traffic() -> None:
    trace = perfetto(result("llm"))
    phase = result("llm").phase("decode")
    rows = [e for e in trace["traceEvents"] if e["ph"] == "C" and e["pid"] == 2]
    moved = sum(
        a["args"]["used"] / 100 * 2e12 * (b["ts"] - a["ts"]) / 1e6 for a, b in pairwise(rows)
    )
    assert moved == pytest.approx(float(phase.traffic["dram"]), rel=1e-3)


def test_a_sweep_is_refused() -> None:
    with pytest.raises(TierwiseError, match="scalar scenarios only"):
        perfetto(result("sweep"))
