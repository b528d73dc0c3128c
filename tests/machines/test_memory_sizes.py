"""Machines of one's own: any size of memory a device is sold with, and the names that drivers print."""

from __future__ import annotations

import pytest

from tierwise.core.errors import UnknownName
from tierwise.machines import system

GIB = 2.0**30


@pytest.mark.parametrize(
    ("name", "gigabytes", "bandwidth"),
    [("m1-max-32gb", 32, 400e9), ("m3-max-64gb", 64, 409.6e9), ("m3-max-36gb", 36, 307.2e9),
     ("m3-max-96gb", 96, 307.2e9),
     ("m4-max-36gb", 36, 410e9), ("rtx-4060-ti-8gb", 8, 288e9), ("pi-5-16gb", 16, 17.1e9)],
)  # fmt: skip
def test_a_size_of_memory_after_the_name(name: str, gigabytes: int, bandwidth: float) -> None:
    """Sizes and bandwidths of Apple's technical specifications: a Max with fewer GPU cores has its own sizes."""
    device = system(name).device
    assert device.memory.capacity == pytest.approx(gigabytes * GIB, rel=0.03)
    assert device.memory.bandwidth == pytest.approx(bandwidth, rel=0.01)
    assert str(gigabytes) in device.title
    assert device.name.endswith(f"-{gigabytes}gb")


def test_metal_leaves_the_system_its_part() -> None:
    """Two thirds of a small memory, three quarters of a large one (recommendedMaxWorkingSetSize)."""
    small, large = system("m1-max-32gb").device, system("m1-max-64gb").device
    assert small.reserve == pytest.approx(32 * GIB / 3, rel=0.01)
    assert large.reserve == pytest.approx(64 * GIB / 4, rel=0.01)


def test_a_size_nobody_sells_is_refused() -> None:
    with pytest.raises(UnknownName, match="m1-max-48gb"):
        system("m1-max-48gb")


@pytest.mark.parametrize(
    ("printed", "known"),
    [("NVIDIA GeForce RTX 4070 Ti SUPER", "rtx-4070-ti-super"),
     ("NVIDIA GeForce RTX 4090 Laptop GPU", "rtx-4090-laptop"),
     ("NVIDIA GB10", "dgx-spark"), ("NVIDIA RTX 6000 Ada Generation", "rtx-6000-ada"), ("Apple M3 Max", "apple-m3-max"),
     ("AMD Radeon RX 7900 XTX (RADV NAVI31)", "rx-7900-xtx"), ("Intel(R) Arc(TM) A770 Graphics (DG2)", "arc-a770"),
     ("AMD Radeon 8060S Graphics (RADV GFX1151)", "ryzen-ai-max-395"), ("Raspberry Pi 5", "raspberry-pi-5")],
)  # fmt: skip
def test_names_as_cuda_metal_and_vulkan_print_them(printed: str, known: str) -> None:
    assert system(printed).device.name == known
