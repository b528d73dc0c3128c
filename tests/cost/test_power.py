"""Matrix products on a sibling of a measured device run at the clock its power leaves."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tierwise.cost import efficiency
from tierwise.machines import device


def rate(name: str, op: str = "matmul") -> float:
    fit = efficiency(device(name)).fit(op, "bf16")
    assert fit is not None
    return float(fit["compute"])


def test_a_card_with_half_the_watts_holds_a_lower_clock() -> None:
    """NVIDIA puts the PCIe A100 at 90 % of the module in such work; 1395 of 1755 MHz were seen on the PCIe H100."""
    assert rate("a100-pcie-80gb") / rate("a100-sxm-80gb") == pytest.approx(0.9, rel=0.03)
    assert rate("h100-pcie") / rate("h100-sxm") == pytest.approx(1395 / 1755, rel=0.1)
    assert rate("h100-pcie", "moe") < rate("h100-sxm", "moe")


def test_as_many_watts_change_nothing_and_more_go_as_far_as_products_do() -> None:
    """An L20 reaches 105 to 115 of its 119.5 TFLOP/s, where an L40S, of the same silicon, reaches two thirds."""
    assert rate("h200-sxm") == pytest.approx(rate("h100-sxm"))
    assert rate("l40s") < rate("rtx-4090") <= 0.95
    assert rate("h100-sxm") <= rate("gh200") <= 1.1 * rate("h100-sxm")


def test_a_what_if_of_the_power_is_felt() -> None:
    module = device("h200-sxm")
    capped = replace(module, power=replace(module.power, rated=module.power.rated / 8.0))
    slow, fast = (efficiency(d).fit("matmul", "bf16") for d in (capped, module))
    assert slow is not None and fast is not None
    assert slow["compute"] == pytest.approx(fast["compute"] / 2.0)
