"""Every number that is read has bounds: whatever stands in its place is answered or refused in words.

Bounds of the kinds themselves first, then a part of what ``benchmarks/fuzz_fields.py`` goes through.
"""

from __future__ import annotations

import importlib
import inspect
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest

from tierwise.core.errors import TierwiseError
from tierwise.core.units import RANGE, parse, whole
from tierwise.machines.schema import Bandwidth, Bytes, Dollars, Energy, Flops, Frequency, Time, Watts
from tierwise.scenario.fields import FIELDS, read
from tierwise.techniques import all_techniques
from tierwise.techniques import parse as technique

pytest.importorskip("pyarrow", reason="reading traces needs pyarrow (pip install 'tierwise[serve]')")

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
fuzz: Any = importlib.import_module("fuzz")
fields: Any = importlib.import_module("fuzz_fields")

NONE = (-1, math.nan, math.inf, -math.inf, 1e308, 1e-308, 10**400, None, [], {}, True, "", "x", "9" * 400, "nan", "inf")
NUMBERS = [row for row in FIELDS.values() if row.kind not in ("text", "switch", "length", "batch")]


@pytest.mark.parametrize("kind", RANGE)
def test_a_quantity_is_zero_or_within_what_anybody_measures(kind: str) -> None:
    for value in NONE:
        with pytest.raises(TierwiseError, match="allowed"):
            parse(value, kind)
    least, most = RANGE[kind]
    assert (parse(0, kind), parse(least, kind), parse(most, kind)) == (0.0, least, most)
    # Of four such numbers products, and ratios of two products of two, are numbers a float holds.
    assert math.isfinite((most * most) / (least * least))


@pytest.mark.parametrize("kind", [Bytes, Bandwidth, Flops, Time, Watts, Energy, Frequency, Dollars])
def test_quantities_of_a_machines_file_have_the_same_bounds(kind: Any) -> None:
    from pydantic import TypeAdapter, ValidationError

    for value in NONE:
        with pytest.raises(ValidationError):
            TypeAdapter(kind).validate_python(value)


@pytest.mark.parametrize("row", NUMBERS, ids=lambda row: row.name)
def test_a_setting_that_is_a_number_takes_no_other(row: Any) -> None:
    for value in NONE:
        with pytest.raises(TierwiseError):
            read(row, value)
    for value in (0, 1, 7, 0.5, 1e15, 2**53):
        try:
            found = read(row, value)
        except TierwiseError:
            continue
        assert math.isfinite(found) and found >= 0


@pytest.mark.parametrize("name", all_techniques())
def test_no_argument_of_a_technique_is_beyond_all_bounds(name: str) -> None:
    maker = all_techniques()[name]
    for p in inspect.signature(maker).parameters.values():
        if "Num" in str(p.annotation) or p.annotation in ("int", "float"):
            for text in ("1e308", "-1e308", "9" * 400, "nan"):
                with pytest.raises(TierwiseError):
                    technique(f"{name}:{p.name}={text}")


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "1e3", "²", "٣", "9" * 5000, "1000000001", " 1", "x", "nan"])
def test_no_whole_number_is_read_of_what_is_none(text: str) -> None:
    assert whole(text) == 0


def test_whole_numbers_up_to_the_most_are_read() -> None:
    assert (whole("1"), whole("007"), whole("64", 64), whole("65", 64)) == (1, 7, 64, 0)


@pytest.mark.parametrize("items", [[[]], [{}], ["x"], [None], [1e-308], [1e308], [10**400], [math.nan], [-1], [True]])
@pytest.mark.parametrize("field", ["compress_ratios", "layer_types", "compress_rates"])
def test_lists_of_numbers_in_a_configuration_hold_sizes(tmp_path: Path, field: str, items: list[Any]) -> None:
    config = json.loads((fields.CATALOG / "models" / "catalog" / "deepseek-v4-flash.json").read_text())["config"]
    if field != "compress_ratios":
        config |= {"compress_ratios": None, "layer_types": ["a"] * 99, "compress_rates": {"a": 4}}
    config[field] = {"a": items[0]} if field == "compress_rates" else items * 99
    found = fuzz.judged("explain", json.dumps(config).encode(), tmp_path)
    assert found is None, found.trace


# How many of the inputs of a target are left out for each that is read: about a hundred remain of each.
STEPS = {"config": 211, "machine": 101, "scenario": 7, "saved": 29, "trace": 41, "run": 41, "meta": 2, "recording": 5,
         "corrections": 5, "safetensors": 5, "index": 1, "gguf": 2, "table-buffers": 1, "table-edge": 3,
         "table-pixels": 3, "table-training": 13, "table-ops": 11, "command": 97, "explain": 977,
         "chip": 503}  # fmt: skip


@pytest.mark.parametrize("target", STEPS)
def test_a_number_of_every_field_replaced_is_answered_or_refused(tmp_path: Path, target: str) -> None:
    (tmp_path / "t.csv").write_text("arrival,prompt,output\n0,32,2\n1,64,2\n")
    read_ = 0
    for data in fields.each(target, STEPS[target]):
        found = fuzz.judged(target, data, tmp_path)
        assert found is None, (found.data, found.trace)
        read_ += 1
    assert read_ >= 10  # inputs were made at all
