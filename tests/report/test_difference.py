"""Two answers: moves add up, errors cancel where they are shared, and any two of a kind can be compared."""

from __future__ import annotations

import json
from typing import Any

import pytest

import tierwise as tw
from tierwise.core.errors import TierwiseError
from tierwise.report.console import console
from tierwise.report.difference import difference
from tierwise.report.difference_report import described
from tierwise.report.page import page
from tierwise.report.terminal import show

BASE = tw.Scenario("llama-3.1-8b", "h100-sxm", tw.Batch(512.0, 64.0, 8.0))
OTHERS = {
    "format": BASE.apply(tw.techniques.quantize_weights("fp8")),
    "batch": BASE.with_traffic(batch=64.0),
    "machine": tw.Scenario("llama-3.1-8b", "a100-80gb", BASE.traffic),
    "model": tw.Scenario("mixtral-8x7b", "2xh100-sxm", BASE.traffic),
    "clock": tw.Scenario("llama-3.1-8b", "h100-sxm:clock=0.8", BASE.traffic),
}


def form(scenario: tw.Scenario) -> Any:
    return json.loads(json.dumps(tw.evaluate(scenario).to_dict()))


def between(a: Any, b: Any) -> Any:
    return difference(a, b, ("a", "b"))


@pytest.mark.parametrize("name", OTHERS)
def test_causes_add_up_to_what_moved(name: str) -> None:
    a, b = form(BASE), form(OTHERS[name])
    d = between(a, b)
    moved = b["summary"]["time_s"] - a["summary"]["time_s"]
    for causes in ("time", "resources"):
        assert sum(x["moved"] for x in d[causes]) == pytest.approx(moved, rel=1e-6, abs=1e-9)
    assert sum(x["moved"] for x in d["memory"]) == pytest.approx(b["memory"]["peak"] - a["memory"]["peak"], abs=1.0)
    assert sum(x["moved"] for x in d["energy"]) == pytest.approx(b["energy"]["total_j"] - a["energy"]["total_j"])
    assert [abs(x["moved"]) for x in d["time"]] == sorted((abs(x["moved"]) for x in d["time"]), reverse=True)
    show(described(d), console())
    assert "What moved the time" in page(described(d), "difference", (), d)


@pytest.mark.parametrize("name", OTHERS)
def test_intervals_are_those_of_a_comparison(name: str) -> None:
    c = tw.compare(BASE, OTHERS[name])
    found = {x["field"]: x for x in between(form(BASE), form(OTHERS[name]))["numbers"]}
    for field, ratio in (("time_s", c.time), ("ttft_s", c.ttft), ("tpot_s", c.tpot), ("throughput", c.throughput)):
        if field not in found:
            assert float(ratio) == pytest.approx(1.0)
            continue
        assert found[field]["ratio"] == pytest.approx(float(ratio))
        assert found[field]["interval"] == pytest.approx([ratio.low, ratio.high])
        assert found[field]["beyond"] == (not ratio.low <= 1.0 <= ratio.high)


def test_inputs_that_differ_are_named_and_others_are_not() -> None:
    d = between(form(BASE), form(OTHERS["batch"]))
    assert [(x["field"], x["before"], x["after"]) for x in d["inputs"]] == [("traffic.batch", 8.0, 64.0)]
    assert {x["field"].split(".")[0] for x in between(form(BASE), form(OTHERS["clock"]))["inputs"]} == {"machine"}


def test_nothing_changed_is_said() -> None:
    d = between(form(BASE), form(BASE))
    assert not any(d[part] for part in ("inputs", "numbers", "chosen", "time", "resources", "memory", "energy"))
    assert "Nothing changed" in described(d).headline


def test_another_calibration_shares_no_errors() -> None:
    """The same scenario a little slower under other tables: a change within what both claim of themselves."""
    a, b = form(BASE), form(BASE)
    b["made_by"]["tables"] = "0" * 64
    for phase in b["phases"]:
        phase["time_s"] *= 1.02
    b["summary"]["time_s"] *= 1.02
    time = next(x for x in between(a, b)["numbers"] if x["field"] == "time_s")
    assert time["interval"][0] < 1.0 < time["interval"][1] and time["beyond"] is False
    b["made_by"]["tables"] = a["made_by"]["tables"]
    time = next(x for x in between(a, b)["numbers"] if x["field"] == "time_s")
    assert time["interval"] == pytest.approx([1.02, 1.02]) and time["beyond"] is True


def test_an_answer_of_before_can_stand_beside_todays() -> None:
    old = form(BASE)
    for name in ("made_by", "energy", "errors", "sensitivity"):
        del old[name]
    old["schema"] = "tierwise.result/2"
    d = between(old, form(OTHERS["format"]))
    assert all(x["beyond"] is None for x in d["numbers"] if x["field"] == "time_s")
    assert d["energy"] == [] and d["time"]
    show(described(d), console())


@pytest.mark.parametrize(
    "broken", [None, [], {}, {"schema": "tierwise.scenario/1"}, {"schema": "tierwise.result/3", "scenario": 1},
               {"schema": "tierwise.result/3", "scenario": {}, "phases": None}, {"schema": 3}]
)  # fmt: skip
def test_what_is_no_answer_is_refused(broken: Any) -> None:
    with pytest.raises(TierwiseError):
        between(broken, form(BASE))
    with pytest.raises(TierwiseError):
        between(form(BASE), broken)


def test_numbers_are_named_and_written_as_people_do() -> None:
    d = difference(form(BASE), form(OTHERS["machine"]), ("runs/old.json", "runs/new.json"))
    report = described(d)
    assert (report.subject, report.place) == ("old.json", "and new.json")
    numbers = {row[0]: row[1] for row in report.sections["numbers"].body.rows}
    assert numbers["time to first token"].endswith(" ms") and numbers["energy"].endswith("J")
    assert numbers["rent per million"].startswith("$") and numbers["MFU"].endswith(" %")
    # What was said stands before what a machine is made of.
    fields = [row[0] for row in report.sections["inputs"].body.rows]
    assert fields[0] == "machine.name" and fields.index("machine.tiers.hbm.bandwidth") >= 3
    assert report.numbers and report.numbers[0][1].endswith("×")
