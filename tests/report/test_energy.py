"""Energy and utilization, op by op and by kind of layer: parts of one sum."""

from __future__ import annotations

import numpy as np
import pytest

import tierwise as tw
from tierwise.report.explain_data import to_dict
from tierwise.report.explain_layers import by_op, energy, layers, rows_of
from tierwise.report.explain_report import page
from tierwise.report.layout import Table

from .cases import SCALAR, result

REAL = {
    "tensor parallel": tw.Scenario("llama-3.1-8b", "4xh100-sxm", tw.Batch(1024.0, 64.0, 8.0)),
    "experts in a pipeline": tw.Scenario("mixtral-8x7b", "8xa100-sxm-80gb", tw.Batch(512.0, 32.0, 8.0),
                                         tw.Plan(tp=4.0, pp=2.0)),
    "image": tw.Scenario("resnet-50", "a100-sxm-80gb", tw.Batch(batch=8.0)),
    "beside each other": tw.Scenario("llama-3.1-8b", "4xh100-sxm", tw.Batch(1024.0, 64.0, 8.0),
                                     tw.Plan(tp=4.0, overlap=True)),
    "capped": tw.Scenario("llama-3.1-8b", "h100-sxm:power_cap=300W", tw.Batch(1024.0, 64.0, 8.0)),
}  # fmt: skip


@pytest.mark.parametrize("name", REAL)
def test_ops_and_what_is_between_them_add_up_to_the_whole(name: str) -> None:
    r = tw.evaluate(REAL[name])
    e = to_dict(r)["energy"]
    assert e["total_j"] == r.energy > 0
    summed = sum(x["energy_j"] for x in e["ops"]) + sum(e["between_j"].values()) + e["system_j"]
    assert summed == pytest.approx(e["total_j"], rel=1e-9)
    assert sum(e["parts"].values()) == pytest.approx(e["total_j"], rel=1e-9)
    for op in e["ops"]:
        assert op["energy_j"] == pytest.approx(sum(op["parts"].values())) and op["energy_j"] >= 0
    for part in ("hbm", "tensor", "l2"):
        assert sum(x["parts"].get(part, 0.0) for x in e["ops"]) == pytest.approx(e["parts"].get(part, 0.0), rel=1e-9)


def test_what_moves_more_bytes_takes_more_of_the_memorys_energy() -> None:
    d = to_dict(tw.evaluate(REAL["tensor parallel"]))
    decode = next(p for p in d["phases"] if p["name"] == "decode")
    spent = {(x["layer"], x["name"]): x["parts"].get("hbm", 0.0) for x in d["energy"]["ops"] if x["phase"] == "decode"}
    byte = [spent[op["layer"], op["name"]] / op["bytes"]["hbm"] for op in decode["ops"] if op["bytes"].get("hbm")]
    assert np.ptp(byte) < 1e-6 * max(byte)


@pytest.mark.parametrize("name", REAL)
def test_kinds_of_layers_are_a_division_of_time_and_energy(name: str) -> None:
    d = to_dict(tw.evaluate(REAL[name]))
    rows = rows_of(d)
    assert sum(r["energy_j"] for r in rows) == pytest.approx(d["energy"]["total_j"], rel=1e-9)
    if name not in ("beside each other", "capped"):
        assert sum(r["time_s"] for r in rows) == pytest.approx(d["summary"]["time_s"], rel=1e-6)
    assert all(0.0 <= r[u] <= 1.0 for r in rows for u in ("mfu", "mbu") if r[u] is not None)
    for phase in d["phases"]:
        mine = [r for r in rows if r["phase"] == phase["name"] and r["mfu"] is not None]
        if name == "tensor parallel":
            busy = sum(r["mfu"] * r["time_s"] for r in mine)
            assert busy == pytest.approx(phase["mfu"] * phase["time_s"], rel=1e-6)


def test_the_page_lists_every_op_with_its_energy() -> None:
    r = tw.evaluate(REAL["tensor parallel"])
    section = by_op(to_dict(r))
    assert section is not None and isinstance(section.body, Table)
    names = {f"{x['layer']}/{x['name'].split('#')[0]}" for x in to_dict(r)["energy"]["ops"]}
    assert names <= {str(row[1]) for row in section.body.rows}
    text = page(r)
    assert 'id="energy-by-op"' in text and 'id="layers"' in text and 'id="energy"' in text


@pytest.mark.parametrize("kind", SCALAR)
def test_reports_have_both_wherever_power_is_known(kind: str) -> None:
    d = to_dict(result(kind))
    assert layers(d).title == "By kind of layer"
    assert (energy(d) is not None) == bool(d["energy"]["total_j"])


def test_a_sweep_keeps_them_by_configuration() -> None:
    r = tw.evaluate(tw.Scenario("llama-3.1-8b", "h100-sxm", tw.Batch(512.0, 64.0, np.array([1.0, 8.0]))))
    e = to_dict(r)["energy"]
    summed = sum(np.asarray(x["energy_j"]) for x in e["ops"]) + sum(np.asarray(x) for x in e["between_j"].values())
    assert summed + np.asarray(e["system_j"]) == pytest.approx(np.asarray(e["total_j"]))
