"""A computer spelled by its parts."""

from __future__ import annotations

import pytest

from tierwise.core.errors import TierwiseError
from tierwise.machines import system
from tierwise.machines.graph import graph


def test_cards_memory_and_a_disk_make_one_computer() -> None:
    s = system("rtx4090 + 64GB ddr5 + nvme-gen4")
    assert (s.device.name, s.count, s.per_node) == ("rtx-4090", 1, 1)
    assert s.host is not None and s.host.cpu is not None
    assert s.host.memory == 64e9
    assert s.host.bandwidth == 2 * 8 * 5600e6  # channels x bytes x transfers
    assert {"host", "nvme", "gddr"} <= set(graph(s).nodes)
    # What nobody said stands in the source.
    assert "processor not said" in s.source and "DDR5-5600" in s.source


def test_channels_and_rate_of_a_named_processor() -> None:
    s = system("2xrtx3090 + epyc-9355 12x ddr5-5600")
    assert (s.device.name, s.count) == ("rtx-3090", 2)
    assert s.host is not None and s.host.cpu is not None
    assert s.host.bandwidth == pytest.approx(12 * 8 * 5600e6)
    assert s.host.cpu.name == "epyc-9355"
    both = system("rtx4090 + 2x xeon-6454s 512GB 8x ddr5-4800 + 2TB nvme-gen4").host
    assert both is not None
    assert both.memory == pytest.approx(512e9)
    assert both.bandwidth == pytest.approx(2 * 8 * 8 * 4800e6)
    assert both.storage[0].tiers[0].capacity == 2e12


def test_parts_stand_in_any_order() -> None:
    a, b = system("rtx4090 + 64GB ddr4-3200 2ch + nvme-gen4"), system("nvme-gen4 + 64GB ddr4-3200 2ch + rtx4090")
    assert a.host == b.host or (a.host is not None and b.host is not None and a.host.bandwidth == b.host.bandwidth)
    assert a.device == b.device


def test_names_without_hyphens() -> None:
    assert system("rtx4090").device.name == system("1xrtx4090").device.name == "rtx-4090"


def test_a_plus_sign_in_a_name_is_part_of_it() -> None:
    assert system("AMD Ryzen AI Max+ 395").device.name == system("ryzen-ai-max-395").device.name
    assert system("rtx4090+64GB ddr5").device.name == "rtx-4090"


def test_a_chip_with_its_own_memory_takes_a_disk() -> None:
    s = system("m3-max-64gb + nvme-gen4")
    assert s.host is not None and s.host.cpu is None
    assert "nvme" in graph(s).nodes


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rtx4090 + 64GB ddr9", "ddr9"),
        ("rtx4090 + 64GB foo", "64GB foo"),
        ("rtx4090 + ", "between plus signs"),
        ("rtx4090 + nvme-gen4", "ddr5"),
        ("rtx4090 + rtx3090 + 64GB ddr5", "one kind"),
        ("rtx4090 + 64GB ddr5-99999", "99999"),
        ("rtx4090 + 64GB ddr5 + 32GB ddr5", "once"),
        ("rtx4090 + 64GB ddr5 + nvme-gen9", "nvme-gen9"),
    ],
)
def test_what_was_not_understood_is_named(text: str, said: str) -> None:
    with pytest.raises(TierwiseError) as caught:
        system(text)
    assert said in str(caught.value)
