"""Timelines and tables of simulations: well-formed, bounded, and true to the run."""

from __future__ import annotations

import csv
import json
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.serving.runs import interrupted, poisson, run
from tierwise.core.errors import TierwiseError
from tierwise.report import serving_trace, tables
from tierwise.report.serving_requests import columns
from tierwise.report.serving_trace import perfetto
from tierwise.report.tables import write_table

from .test_serving import KINDS, made


@pytest.mark.parametrize("kind", KINDS)
def test_the_timeline_is_json_with_slices_in_order(kind: str) -> None:
    d = json.loads(json.dumps(perfetto(made(kind)), allow_nan=False))
    lanes: dict[tuple[int, int], float] = defaultdict(lambda: -1.0)
    for e in d["traceEvents"]:
        assert e["ph"] in "MCXbei" and (e["ph"] == "M" or e["ts"] >= 0)
        if e["ph"] == "X":
            assert e["dur"] >= 0 and e["ts"] >= lanes[e["pid"], e["tid"]] - 1e-3
            lanes[e["pid"], e["tid"]] = e["ts"] + e["dur"]


@pytest.mark.parametrize("kind", ["calm", "interrupted", "rejected"])
def test_requests_are_nested_slices(kind: str) -> None:
    r = made(kind)
    stack: dict[int, list[tuple[str, float]]] = defaultdict(list)
    inside: dict[int, float] = defaultdict(float)
    for e in perfetto(r)["traceEvents"]:
        if e["ph"] == "b":
            assert not stack[e["id"]] or e["ts"] >= stack[e["id"]][-1][1]
            stack[e["id"]].append((e["name"], e["ts"]))
        if e["ph"] == "e":
            name, start = stack[e["id"]].pop()  # ends come in the order viewers expect: the innermost first
            assert name == e["name"] and e["ts"] >= start
            if not name.startswith("request"):
                inside[e["id"]] += (e["ts"] - start) / 1e6
    seen = set(stack)
    assert not any(stack.values())
    arrived = np.flatnonzero((r.requests.arrival <= r.totals["end"]) & (r.requests.state != 3))
    assert seen == set(arrived.tolist())
    latency = r.requests.last - r.requests.arrival
    for i in np.flatnonzero(r.requests.state == 2).tolist():
        assert inside[i] == pytest.approx(latency[i], rel=1e-6)  # queue, prefill and decode are all of it


def test_the_timeline_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving_trace, "REQUESTS", 10)
    d = perfetto(made("calm"))
    assert len({e["id"] for e in d["traceEvents"] if e["ph"] == "b"}) == 10
    assert "10 of 400 requests" in d["otherData"]["shown"]


def test_steps_in_flight_at_once_get_lanes_of_their_own() -> None:
    r = made("calm")
    steps = r.steps.__class__(*(np.array(x) for x in ([0, 0, 0, 0], [0.0, 1.0, 2.0, 3.0], [2.0, 3.0, 4.0, 5.0],
                                                      [1, 0, 1, 2], [0, 8, 8, 0])))  # fmt: skip
    rows = [e for e in perfetto(replace(r, steps=steps))["traceEvents"] if e["ph"] == "X"]
    assert [e["tid"] for e in rows] == [0, 1, 0, 1]
    assert [e["name"] for e in rows] == ["decode 1", "prefill 8", "decode 1 + prefill 8", "decode 2"]
    assert [e["cat"] for e in rows] == ["decode", "prefill", "mixed", "decode"]


def test_parquet_holds_every_request(tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    for kind in ("tenants", "interrupted", "all rejected", "empty"):
        target = tmp_path / "requests.parquet"
        write_table(str(target), columns(made(kind)))
        table = pq.read_table(target)
        want = columns(made(kind))
        assert table.column_names == list(want) and table.num_rows == len(made(kind).trace)
        for name, values in want.items():
            got = table[name].to_pylist()
            assert [None if x is None or str(x) == "nan" else x for x in values.tolist()] == got, name
        assert oct(target.stat().st_mode & 0o777) != oct(0o600)
    assert list(tmp_path.iterdir()) == [target]


def test_csv_holds_every_request_and_needs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    r = interrupted(run(poisson(50, 20.0)), 3.0)
    write_table(str(tmp_path / "r.csv"), columns(r))
    with open(tmp_path / "r.csv", encoding="utf-8", newline="") as f:
        rows = list(csv.DictReader(f))
    want = columns(r)
    assert len(rows) == 50 and list(rows[0]) == list(want)
    for name in ("ttft_s", "arrival_s", "tokens"):
        np.testing.assert_array_equal([float(x[name] or "nan") for x in rows], want[name].astype(float))
    assert {x["state"] for x in rows} == {"done", "running", "waiting"}


def test_without_pyarrow_one_line_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "polars", None)
    target = tmp_path / "r.parquet"
    target.write_text("old")
    with pytest.raises(TierwiseError, match=r"tierwise\[tables\]") as caught:
        write_table(str(target), columns(made("calm")))
    assert "\n" not in str(caught.value)
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "r.csv"
    target.write_text("old")

    def stop(path: str, table: object) -> None:
        Path(path).write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(tables, "_csv", stop)
    with pytest.raises(KeyboardInterrupt):
        write_table(str(target), columns(made("calm")))
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TierwiseError, match="does not exist"):
        write_table(str(tmp_path / "no" / "r.csv"), columns(made("calm")))


def test_other_endings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TierwiseError, match=r"ends in '.foo'; allowed: .parquet or .csv"):
        write_table(str(tmp_path / "r.foo"), columns(made("calm")))
    assert not list(tmp_path.iterdir())
