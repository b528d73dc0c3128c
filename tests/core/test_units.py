"""Units: what people write is read as SI, and nothing else is accepted."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierwise.core.errors import BadField
from tierwise.core.units import dollars, gb, joules, parse, seconds, si


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("80GB", "bytes", 80e9),
        ("80 GiB", "bytes", 80 * 2**30),
        ("3.35TB/s", "bandwidth", 3.35e12),
        ("400Gb/s", "bandwidth", 50e9),
        ("989TFLOP/s", "flops", 989e12),
        ("40ms", "time", 0.04),
        ("600 ns", "time", 6e-7),
        ("700W", "power", 700.0),
        ("4pJ/bit", "energy", 32e-12),
        ("$2.99/h", "money", 2.99 / 3600),
        ("$30000", "money", 30000.0),
        (5, "bytes", 5.0),
        ("8k", "count", 8000.0),
        ("1.5B", "count", 1.5e9),
    ],
)
def test_known_quantities(text: object, kind: str, value: float) -> None:
    assert parse(text, kind) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("text", ["", "GB", "80XB", "-1GB", "nan", "inf", None, True, [], "1e999GB", "8 0GB", "80GB/s"])
def test_bad_bytes_are_refused_by_name(text: object) -> None:
    with pytest.raises(BadField, match=r"disk\.yaml: capacity: found"):
        parse(text, "bytes", "disk.yaml", "capacity")


@given(st.floats(1e-3, 1e3), st.sampled_from(["kB", "MB", "GB", "TB", "KiB", "MiB", "GiB"]))
def test_scaling_is_linear(x: float, unit: str) -> None:
    assert parse(f"{x!r}{unit}", "bytes") == pytest.approx(x * parse("1" + unit, "bytes"), rel=1e-12)


@given(st.text(max_size=20), st.sampled_from(["bytes", "time", "flops", "count", "money", "bandwidth"]))
def test_any_text_is_a_finite_number_or_one_clear_error(text: str, kind: str) -> None:
    try:
        value = parse(text, kind)
    except BadField:
        return
    assert math.isfinite(value) and value >= 0


@given(st.floats(1e-11, 1e11))
def test_printed_sizes_read_back(x: float) -> None:
    shown = gb(x * 1e3)
    assert parse(shown, "bytes") == pytest.approx(x * 1e3, rel=0.06, abs=0.51)


def test_people_read_these() -> None:
    assert gb(16.06e9) == "16.1 GB"
    assert seconds(0.00541) == "5.41 ms"
    assert si(1.5e12, "FLOP") == "1.50 TFLOP"
    assert dollars(0.005) == "$0.005"
    assert joules(2400) == "2.40 kJ"
    assert seconds(float("inf")) == "never"
