"""Scales inside an integer product are vector work: three instructions an output and group of K."""

from __future__ import annotations

import numpy as np
import pytest

from tierwise.core.numerics import Format, fmt
from tierwise.cost import Target, efficiency, price
from tierwise.machines import system
from tierwise.program.types import Op, Operand

MACHINE = system("a100-sxm-80gb")
ON = Target(MACHINE, efficiency(MACHINE.device))


def product(group: float, m: object = 4096.0, arithmetic: str = "int4") -> Op:
    form = Format("four", 4.0, 16.0 / group if group else 0.0, arithmetic)
    reads = (Operand("x", "act", m * 4096.0, form), Operand("w", "weight", 4096.0**2, form))  # type: ignore[operator]
    return Op("matmul", "x", "mlp", {"m": m, "n": 4096.0, "k": 4096.0}, 2.0 * 4096.0**2 * m, reads,  # type: ignore
              (Operand("y", "act", m * 4096.0, fmt("fp16")),), arithmetic)  # type: ignore[operator]  # fmt: skip


def test_a_group_costs_three_instructions_an_output() -> None:
    seconds = price(product(128), ON).overlapped["dequantize"]
    instructions = 3.0 * 4096.0**3 / 128
    assert seconds == pytest.approx(instructions / (19.5e12 / 2) / ON.efficiency.of("compute", "vector"), rel=0.01)


def test_smaller_groups_cost_more_and_a_scale_a_column_nothing() -> None:
    fine, coarse = (price(product(g), ON).overlapped["dequantize"] for g in (32, 128))
    assert fine == pytest.approx(4 * coarse)
    assert "dequantize" not in price(product(0), ON).overlapped


def test_it_bounds_many_rows_of_four_bits_and_not_few() -> None:
    bound = price(product(128, np.asarray([1.0, 4096.0])), ON).bound_by
    assert bound[0] != "dequantize" and bound[1] == "dequantize"


def test_weights_that_are_only_stored_narrow_are_not_scaled_in_the_sum() -> None:
    weights = fmt("int4-g128")
    reads = (Operand("x", "act", 4096.0**2, fmt("fp32")), Operand("w", "weight", 4096.0**2, weights))
    op = Op("matmul", "x", "mlp", {"m": 4096.0, "n": 4096.0, "k": 4096.0}, 2 * 4096.0**3, reads, (), "tf32")
    assert "dequantize" not in price(op, ON).overlapped
