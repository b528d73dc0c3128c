"""Coefficients fitted on one device carry to another by its clock."""

from dataclasses import replace

import numpy as np
import pytest

from tierwise.cost import efficiency
from tierwise.cost.calibrate import carry
from tierwise.machines import system
from tierwise.machines.types import Device

DATA = {"at": {"clock": 2e9, "unit_share": 1e10}, "cycles": ["launch"], "draws": ["unit"]}


def test_half_the_clock_takes_twice_the_time_and_draws_half_as_much() -> None:
    slower = carry(DATA, 1e9, 1e10)
    assert slower == {"launch": pytest.approx(2.0), "unit": pytest.approx(0.5)}
    assert carry(DATA, 2e9, 1e10) == {"launch": 1.0, "unit": 1.0}


def test_a_unit_draws_the_same_bytes_from_a_faster_memory() -> None:
    assert carry(DATA, 2e9, 2e10) == {"launch": 1.0, "unit": 0.5}


def test_nothing_is_carried_to_a_device_of_unknown_clock() -> None:
    assert carry(DATA, float("nan"), 1e10) == {}
    assert carry({}, 2e9, 1e10) == {}


def test_of_equal_peaks_on_paper_the_clock_says_which_unit_is_faster() -> None:
    data = {"at": {**DATA["at"], "unit_rate": 1e13}, "rates": ["compute"], "counts": ["softmax"]}  # type: ignore[dict-item]
    assert carry(data, 4e9, 1e10, 1e13) == {"compute": 2.0, "softmax": 0.5}
    # A peak that follows the clock already has it in.
    assert carry(data, 4e9, 1e10, 2e13) == {"compute": 1.0, "softmax": 1.0}
    swept = carry(data, np.asarray([2e9, 4e9]), 1e10, 1e13)
    assert swept["compute"] == pytest.approx([1.0, 2.0])


def test_kernels_of_a_sibling_take_as_many_cycles() -> None:
    """Of the B200's kernels on a B300, whose datasheet states the same peaks and whose clock is 3.4 % higher: times of
    prefill in the memory of the chip go with the clock, those bound by HBM do not change."""
    faster = system("b300-sxm").device.clock / system("b200-sxm").device.clock
    own = efficiency(system("b200-sxm").device, "trtllm").fit("attention_prefill", "bf16")
    there = efficiency(system("b300-sxm").device, "trtllm", frozenset({"b300-sxm"})).fit("attention_prefill", "bf16")
    assert own is not None and there is not None and faster == pytest.approx(2032 / 1965)
    assert there["launch"] == pytest.approx(own["launch"] / faster)
    assert there["compute"] == pytest.approx(own["compute"] * faster)
    assert there["softmax"] == pytest.approx(own["softmax"] / faster)
    assert there["memory"] == own["memory"]


def test_a_peak_of_instructions_that_kernels_lack_makes_them_no_faster() -> None:
    """The B300's peak in four bits is 1.5 times the B200's, whose kernels run on both: at the B200's rate."""
    b200, b300 = system("b200-sxm").device, system("b300-sxm").device
    for op, dtype, name in (("matmul", "fp4", "compute"), ("mla_prefill", "bf16-nvfp4", "gemm_compute")):
        own = efficiency(b200, "vllm").fit(op, dtype)
        there = efficiency(b300, "vllm", frozenset({"b300-sxm"})).fit(op, dtype)
        assert own is not None and there is not None
        # 1.04 for the clock, or the power, that products carry with besides.
        assert there[name] / own[name] == pytest.approx(1.0 / 1.5, rel=0.045)
    wide, carried = (efficiency(d, "vllm", frozenset({"b300-sxm"})).fit("matmul", "bf16") for d in (b200, b300))
    assert wide is not None and carried is not None and carried["compute"] / wide["compute"] > 1.0


def with_clock(device: Device, factor: float) -> Device:
    engines = tuple(replace(e, clock=e.clock * factor) for e in device.engines)
    return replace(device, name="like-it", engines=engines)


@pytest.mark.parametrize("name", ["a100-sxm-80gb", "h100-sxm", "l40s", "b200-sxm"])
def test_the_measured_device_keeps_what_was_fitted_on_it(name: str) -> None:
    device = system(name).device
    own, same, fast = (efficiency(d) for d in (device, with_clock(device, 1.0), with_clock(device, 2.0)))
    for key, fit in own.fits.items():
        if key[1].endswith("-host"):
            continue  # of the machine that the recorded device is in, not of its like
        assert same.fits[key].values == pytest.approx(fit.values, rel=2e-3)
        if key[0] == "attention_decode":
            assert fast.fits[key].values["launch"] == pytest.approx(fit.values["launch"] / 2.0, rel=2e-3)
            assert fast.fits[key].values["memory"] == fit.values["memory"]


# The lanes of a unit that a multiply-add of fp32 runs on each clock: 64 or 128 in every NVIDIA GPU since Pascal (CUDA
# C++ Programming Guide, arithmetic throughput).
@pytest.mark.parametrize("name", ["p100-sxm", "v100-sxm", "t4", "a100-sxm-80gb", "a30", "a10", "a40", "rtx-3090",
                                  "l4", "l40", "l40s", "rtx-4090", "h100-sxm", "h100-pcie", "h100-nvl", "h200-sxm",
                                  "b200-sxm", "gb200", "gb300", "rtx-5090", "rtx-pro-6000"])  # fmt: skip
def test_clocks_agree_with_rates_and_units(name: str) -> None:
    device = system(name).device
    vector = next(e for e in device.engines if e.kind == "vector")
    lanes = vector.rates["fp32"] / (2.0 * vector.units * device.clock)
    assert min(abs(lanes / 64.0 - 1.0), abs(lanes / 128.0 - 1.0)) < 0.02
