"""Consumer machines beside figures that their makers publish in another form: bus width and pin rate, AI TOPS."""

from __future__ import annotations

import pytest

from tierwise.machines.load import device

# Bus width and pin rate as makers' specification tables give them.
_BUSES = [
    ("rtx-2060", 192, 14.0), ("rtx-2070", 256, 14.0), ("rtx-2080", 256, 14.0), ("rtx-2080-super", 256, 15.5),
    ("rtx-2080-ti", 352, 14.0), ("rtx-3050", 128, 14.0), ("rtx-3060", 192, 15.0), ("rtx-3060-ti", 256, 14.0),
    ("rtx-3070", 256, 14.0), ("rtx-3070-ti", 256, 19.0), ("rtx-3080", 320, 19.0), ("rtx-3080-ti", 384, 19.0),
    ("rtx-3090-ti", 384, 21.0), ("rtx-3050-laptop", 128, 12.0), ("rtx-3060-laptop", 192, 14.0),
    ("rtx-3080-laptop", 256, 14.0), ("rtx-4060", 128, 17.0), ("rtx-4060-ti", 128, 18.0), ("rtx-4070", 192, 21.0),
    ("rtx-4070-super", 192, 21.0), ("rtx-4070-ti", 192, 21.0), ("rtx-4070-ti-super", 256, 21.0),
    ("rtx-4080", 256, 22.4), ("rtx-4080-super", 256, 23.0), ("rtx-4050-laptop", 96, 16.0),
    ("rtx-4060-laptop", 128, 16.0), ("rtx-4070-laptop", 128, 16.0), ("rtx-4080-laptop", 192, 18.0),
    ("rtx-4090-laptop", 256, 18.0), ("rtx-5050", 128, 20.0), ("rtx-5060", 128, 28.0), ("rtx-5060-ti", 128, 28.0),
    ("rtx-5070", 192, 28.0), ("rtx-5070-ti", 256, 28.0), ("rtx-5080", 256, 30.0), ("rtx-5090-laptop", 256, 28.0),
    ("rx-580", 256, 8.0), ("rx-6600", 128, 14.0), ("rx-6600-xt", 128, 16.0), ("rx-6700-xt", 192, 16.0),
    ("rx-6800-xt", 256, 16.0), ("rx-6950-xt", 256, 18.0), ("rx-7600", 128, 18.0), ("rx-7700-xt", 192, 18.0),
    ("rx-7800-xt", 256, 19.5), ("rx-7900-gre", 256, 18.0), ("rx-7900-xt", 320, 20.0), ("rx-9060-xt", 128, 20.0),
    ("rx-9070", 256, 20.0), ("rx-9070-xt", 256, 20.0), ("arc-a770", 256, 17.5), ("arc-b580", 192, 19.0),
    ("apple-m1-pro", 256, 6.4), ("apple-m1-max", 512, 6.4), ("apple-m2", 128, 6.4), ("apple-m3-pro", 192, 6.4),
    ("apple-m3-max", 512, 6.4), ("apple-m3-ultra", 1024, 6.4), ("apple-m4", 128, 7.5), ("apple-m4-pro", 256, 8.533),
    ("apple-m5", 128, 9.6), ("dgx-spark", 256, 8.533), ("jetson-thor", 256, 8.533),
    ("jetson-orin-nano-super", 128, 6.4), ("raspberry-pi-4", 32, 3.2),
]  # fmt: skip


@pytest.mark.parametrize(("name", "bits", "gigabits_per_pin"), _BUSES)
def test_bandwidth_is_what_the_bus_carries(name: str, bits: int, gigabits_per_pin: float) -> None:
    assert device(name).memory.bandwidth == pytest.approx(bits * gigabits_per_pin * 1e9 / 8, rel=0.025)


@pytest.mark.parametrize(
    ("name", "tops", "of_int8"),
    [
        # NVIDIA, GeForce laptops compared: AI TOPS are of int8 or fp8 with sparsity.
        ("rtx-4050-laptop", 194, 2), ("rtx-4060-laptop", 233, 2), ("rtx-4070-laptop", 321, 2),
        ("rtx-4080-laptop", 542, 2), ("rtx-4090", 1321, 2),
        # NVIDIA, launch of the RTX 50 series: of fp4 with sparsity.
        ("rtx-5070", 988, 4), ("rtx-5070-ti", 1406, 4), ("rtx-5080", 1801, 4), ("rtx-5090", 3352, 4),
        # NVIDIA, Jetson: Orin in int8 with sparsity, Thor in fp4 with sparsity.
        ("jetson-orin-nano-super", 67, 2), ("jetson-thor", 2070, 4),
    ],
)  # fmt: skip
def test_int8_is_what_is_left_of_advertised_tops(name: str, tops: float, of_int8: float) -> None:
    best = max(float(e.rates["int8"]) for e in device(name).engines if "int8" in e.rates)
    assert best == pytest.approx(tops * 1e12 / of_int8, rel=0.02)


def test_families_of_apples_gpus() -> None:
    """Apple, MTLGPUFamily: M1 is family 7, M2 8, M3 and M4 9."""
    for name in ("m3", "m3-pro", "m3-max", "m3-max-48gb", "m3-ultra", "m4", "m4-16gb", "m4-pro", "m4-max"):
        assert device(name).family == "apple-gpu-9"
    for name in ("m1", "m1-max", "m2-max", "m2-ultra"):
        assert device(name).family == "apple-gpu"
