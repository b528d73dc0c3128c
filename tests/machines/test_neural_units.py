"""Neural units of phones and cars: rates that follow from what their maker states."""

import pytest

from tierwise.machines import system


def int8(name: str) -> float:
    return float(max(e.rates["int8"] for e in system(name).device.engines))


def test_generations_are_as_far_apart_as_their_maker_states() -> None:
    """Qualcomm: the 8 Elite's is 45 % faster than the generation before, the Gen 5's 37 % faster than that; the X2
    Elite's, of the Gen 5's units, does 80 TOPS. The first press had 34 to 45 TOPS for the oldest."""
    oldest, middle, newest = (int8(f"snapdragon-8-{n}-npu") for n in ("gen-3", "elite", "elite-gen-5"))
    assert middle / oldest == pytest.approx(1.45, rel=0.01) and newest / middle == pytest.approx(1.37, rel=0.01)
    assert newest == int8("snapdragon-x2-elite-npu") == 80e12
    assert 34e12 <= oldest <= 45e12


@pytest.mark.parametrize(("name", "both"), [("sa8295p-npu", 40e12), ("sa8775p-npu", 70e12)])
def test_a_model_runs_on_one_of_two_units(name: str, both: float) -> None:
    assert int8(name) == both / 2.0
