"""Formats: bits by published layouts, arrays of formats, refusal of what is none."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierwise.core.errors import UnknownName
from tierwise.core.numerics import fmt, known_formats, multiply_in


@pytest.mark.parametrize(
    ("name", "bits"),
    [
        ("bf16", 16), ("fp8", 8), ("nvfp4", 4.5), ("mxfp4", 4.25), ("q4_0", 4.5), ("q8_0", 8.5), ("q4_k", 4.5),
        ("q6_k", 6.5625), ("int4-g128", 4 + 20 / 128), ("int4-g128-sym", 4 + 16 / 128),
        ("int2-g32-z16", 3.0), ("0.8bit", 0.8), ("fp8-block", 8 + 32 / 16384),
    ],
)  # fmt: skip
def test_bits_per_element_follow_from_the_layout(name: str, bits: float) -> None:
    assert fmt(name).bytes * 8 == pytest.approx(bits, rel=1e-12)


def test_kv_zero_is_as_wide_as_asked() -> None:
    assert fmt("int2-g32", zero_bits=16).bytes * 8 == pytest.approx(3.0)


def test_an_array_of_names_is_one_format_with_array_fields() -> None:
    many = fmt(np.array([["bf16", "fp8"], ["int4-g128", "nvfp4"]]))
    assert many.bytes.shape == (2, 2)
    for index, name in np.ndenumerate(np.array([["bf16", "fp8"], ["int4-g128", "nvfp4"]])):
        assert many.bytes[index] == fmt(str(name)).bytes
        assert many.arithmetic[index] == fmt(str(name)).arithmetic


def test_weight_only_formats_multiply_in_the_activations_dtype() -> None:
    assert multiply_in(fmt("int4-g128"), fmt("bf16")) == "bf16"
    assert multiply_in(fmt("fp8"), fmt("bf16")) == "fp8"
    assert multiply_in(fmt("int8"), fmt("bf16")) == "bf16"
    assert multiply_in(fmt("int8"), fmt("int8")) == "int8"
    assert multiply_in(fmt("fp8"), fmt("fp32")) == "fp32"


@pytest.mark.parametrize("name", ["bf61", "int-g", "int4-g0", "int99-g8", "", "bits"])
def test_unknown_formats_name_the_nearest(name: str) -> None:
    with pytest.raises(UnknownName, match="number format"):
        fmt(name)


@given(st.integers(1, 16), st.integers(1, 4096))
def test_smaller_groups_cost_more(bits: int, group: int) -> None:
    assert fmt(f"int{bits}-g{group}").bytes > fmt(f"int{bits}-g{group + 1}").bytes > bits / 8


def test_every_listed_name_is_one() -> None:
    assert all(float(fmt(name).bytes) > 0 for name in known_formats())
