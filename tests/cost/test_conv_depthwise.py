"""Depthwise convolutions on microcontrollers: a fraction of their own, which nothing else has."""

from __future__ import annotations

import numpy as np
import pytest

from tierwise.core.numerics import fmt
from tierwise.cost import efficiency, price
from tierwise.cost.types import Target
from tierwise.machines import system
from tierwise.program.types import Op, Operand


def target(name: str) -> Target:
    s = system(name)
    return Target(s, efficiency(s.device))


def conv(channels: float, groups: float, window: float = 3.0, side: float = 28.0) -> Op:
    n, int8 = side * side, fmt("int8")
    flops = 2.0 * n * channels * channels / groups * window**2
    dims = {"batch": 1.0, "out_h": side, "out_w": side, "c_out": channels, "c_in": channels, "kh": window, "kw": window,
            "groups": groups, "stride": 1.0}  # fmt: skip
    reads = (Operand("x", "act", n * channels, int8),
             Operand("w", "weight", channels * channels / groups * window**2, int8))  # fmt: skip
    return Op("conv", "c", "conv", dims, flops, reads, (Operand("y", "act", n * channels, int8),), "int8")


@pytest.mark.parametrize("name", ["stm32h743", "stm32l4r5", "stm32u575"])
def test_depthwise_convolutions_take_more_cycles_a_multiply_add(name: str) -> None:
    on = target(name)
    fractions = on.efficiency.compute
    plain, apart = conv(64.0, 1.0), conv(64.0, 64.0)
    per = [float(price(op, on).time) / op.flops for op in (plain, apart)]
    assert per[1] / per[0] == pytest.approx(fractions["conv"] / fractions["depthwise"], rel=0.05)
    assert fractions["depthwise"] < fractions["matmul"] < fractions["conv"] < 0.5


def test_groups_may_be_an_array_of_both() -> None:
    on = target("stm32h743")
    both = conv(64.0, np.asarray([1.0, 64.0]))  # type: ignore[arg-type]
    times = np.asarray(price(both, on).time)
    assert times == pytest.approx([float(price(conv(64.0, g), on).time) for g in (1.0, 64.0)])


def test_a_faster_clock_of_a_core_is_as_much_faster() -> None:
    slow, fast = (target(n) for n in ("stm32f746", "stm32h743"))
    ratio = float(price(conv(64.0, 1.0), slow).time) / float(price(conv(64.0, 1.0), fast).time)
    assert ratio == pytest.approx(480.0 / 216.0, rel=0.05)
