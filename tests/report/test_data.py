"""The JSON form: its schema, its document, and that its parts agree with each other and with the result."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from tierwise.report.explain_data import to_dict
from tierwise.report.explain_phases import ROLES, by_resource, resource

from .cases import ADVICE, SCALAR, result

SCHEMA = json.loads((resources.files("tierwise.report") / "result.schema.json").read_text("utf-8"))
DOC = Path(__file__).parents[2] / "docs" / "json.md"


@pytest.mark.parametrize("kind", [*SCALAR, "sweep"])
def test_output_is_plain_json_and_valid(kind: str) -> None:
    d = to_dict(result(kind), ADVICE, largest_batch=40.0, longest_context=np.float64(9000.0))
    text = json.dumps(d, allow_nan=False)
    assert json.loads(text) == d
    jsonschema.validate(d, SCHEMA, jsonschema.Draft202012Validator)


def test_the_schema_refuses_what_is_undocumented() -> None:
    d = to_dict(result("llm"))
    for broken in ({**d, "extra": 1}, {**d, "schema": "tierwise.result/0"}, {**d, "basis": "guess"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, SCHEMA, jsonschema.Draft202012Validator)
    assert jsonschema.Draft202012Validator.check_schema(SCHEMA) is None


def _fields(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        yield from schema.get("properties", {})
        for part in schema.values():
            yield from _fields(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from _fields(part)


def test_every_field_is_documented() -> None:
    text = DOC.read_text("utf-8")
    assert sorted({f for f in _fields(SCHEMA) if f"`{f}`" not in text}) == []


@pytest.mark.parametrize("kind", [k for k in SCALAR if k != "overlap"])
def test_parts_add_up(kind: str) -> None:
    r = result(kind)
    d = to_dict(r)
    assert d["summary"]["time_s"] == pytest.approx(sum(p["time_s"] for p in d["phases"]))
    assert d["memory"]["peak"] == pytest.approx(sum(d["memory"]["parts"].values()))
    assert d["memory"]["free"] == pytest.approx(d["memory"]["capacity"] - d["memory"]["peak"])
    for p in d["phases"]:
        assert sum(op["share"] for op in p["ops"]) == pytest.approx(1.0)
        assert sum(op["time_s"] for op in p["ops"]) + p["host_s"] == pytest.approx(p["pass_time_s"])
        assert sum(p["seconds_by_bound"].values()) == pytest.approx(p["pass_time_s"])
        assert sum(op["flops"] for op in p["ops"]) == pytest.approx(p["flops"])
        for tier, size in p["bytes"].items():
            assert sum(op["bytes"].get(tier, 0.0) for op in p["ops"]) == pytest.approx(size)
        for tier, roles in p["bytes_by_role"].items():
            assert sum(roles.values()) == pytest.approx(p["bytes"][tier])
            for role in ROLES:
                assert roles.get(role, 0.0) <= p["operand_bytes"].get(role, 0.0) * (1 + 1e-9)


def test_utilization_follows_from_its_definition() -> None:
    r = result("llm")
    d = to_dict(r)
    for p in d["phases"]:
        assert p["mfu"] == pytest.approx(p["flops"] / (500e12 * p["pass_time_s"]))
        assert p["mbu"] == pytest.approx(p["bytes"]["dram"] / (2e12 * p["pass_time_s"]))
        assert 0 < p["mfu"] < 1 and 0 < p["mbu"] < 1
    assert d["summary"]["mbu"] == d["phases"][1]["mbu"]


def test_what_is_unknown_is_null() -> None:
    d = to_dict(result("cnn"))
    assert d["summary"]["ttft_s"] is None and d["summary"]["tpot_s"] is None and d["summary"]["mbu"] is None
    assert d["summary"]["throughput_unit"] == "requests/s"
    assert d["scenario"]["model"]["max_context"] is None
    assert d["summary"]["largest_batch"] is None
    assert to_dict(result("llm"), ADVICE)["advice"][0]["usd_per_million"] == [None, None]


def test_a_sweep_keeps_every_configuration() -> None:
    r = result("sweep")
    d = to_dict(r)
    assert d["shape"] == [3] and d["text"] is None
    assert d["summary"]["time_s"] == list(np.asarray(r.time))
    assert d["summary"]["fits"] == [True, True, False]
    decode = d["phases"][1]
    assert len(decode["pass_time_s"]) == 3 and len(decode["bound_by"]) == 3
    one = to_dict(result("llm"))
    assert d["summary"]["tpot_s"][1] == pytest.approx(one["summary"]["tpot_s"])
    assert decode["bound_by"][1] == one["phases"][1]["bound_by"]


def test_the_order_of_layers_is_that_of_the_graph() -> None:
    assert to_dict(result("llm"))["phases"][0]["order"] == [["input", 1], ["layer", 8], ["output", 1]]
    assert to_dict(result("cnn"))["phases"][0]["order"] == [["stem", 1], ["body", 3], ["output", 1]]


@pytest.mark.parametrize("kind", SCALAR)
def test_the_headline_lies_in_its_interval(kind: str) -> None:
    s = to_dict(result(kind))["summary"]
    low, high = s["interval_s"]
    assert low <= s["time_s"] <= high


def test_bounds_are_named_by_their_resource() -> None:
    for kind in SCALAR:
        d = to_dict(result(kind))
        known = {"compute", "softmax", "link", "network", "host", "dispatch", "latency", "unexplained"}
        known |= {t["name"] for t in d["scenario"]["machine"]["tiers"]}
        for p in d["phases"]:
            assert {p["bound_by"], *p["seconds_by_bound"], *p["seconds_if_alone"]} <= known
            assert {op["bound_by"] for op in p["ops"]} <= known


def test_launching_is_the_work_of_the_host() -> None:
    names = np.asarray(["launch", "none", "dram"])
    assert resource("launch") == "host" and resource(names) == ["host", "unexplained", "dram"]
    assert by_resource([("launch", 1.0), ("host", 2.0), ("dram", 4.0)]) == {"host": 3.0, "dram": 4.0}
