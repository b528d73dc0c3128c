"""The catalog against physics and against facts that are not in it."""

import math
import re

import pytest

from tierwise.machines import device, device_names, system, system_names
from tierwise.machines.load import CATALOG, SYSTEMS
from tierwise.machines.read import read_mapping
from tierwise.machines.schema import PASSIVE
from tierwise.machines.types import Device

DEVICES = device_names()
COMPUTING = [n for n in DEVICES if device(n).kind not in PASSIVE]


def test_the_catalog_is_wide() -> None:
    assert len(DEVICES) >= 60
    assert len(system_names()) >= 12
    assert {device(n).kind for n in DEVICES} >= {
        *("gpu", "cpu", "npu", "tpu", "fpga", "pim", "mcu", "soc", "wafer", "storage", "memory", "nic")
    }


@pytest.mark.parametrize("name", DEVICES)
def test_every_number_has_a_source(name: str) -> None:
    d = device(name)
    sources = [p.source for parts in (d.tiers, d.engines, d.links) for p in parts]
    assert all(len(s.split()) >= 3 for s in [*sources, d.power.source, d.price.source, d.dispatch.source])
    assert d.reserve == 0 or d.sources["reserve"]


@pytest.mark.parametrize("name", DEVICES)
def test_a_device_obeys_physics(name: str) -> None:
    d = device(name)
    on_chip = [t for t in d.tiers if t.kind in ("scratchpad", "cache")]
    for near, far in zip(d.tiers, d.tiers[1:], strict=False):
        assert near.bandwidth >= far.bandwidth, (near.name, far.name)
        assert near.latency <= far.latency, (near.name, far.name)
    for t in d.tiers:
        assert t.write_bandwidth <= t.bandwidth
        assert math.isnan(t.energy) or 1e-12 < t.energy < 1e-9  # 0.1 to 100 pJ/bit or so
        assert t.kind not in ("scratchpad", "cache") or t.capacity < d.memory.capacity
    assert 0 < d.power.idle < d.power.rated
    assert not on_chip or d.cache == on_chip[-1]
    assert d.reserve < 0.6 * d.memory.capacity if d.kind not in PASSIVE else d.reserve == 0
    for link in d.links:
        assert 1e-8 < link.latency < 1e-3
        if link.kind == "host" and d.kind == "gpu":
            assert link.bandwidth < d.memory.bandwidth


@pytest.mark.parametrize("name", COMPUTING)
def test_rates_are_dense_and_ordered(name: str) -> None:
    d = device(name)
    best = 0.0
    for e in d.engines:
        assert e.sparse in (1, 2, 4, 8)
        assert all(m >= 1 and n >= 1 for m, n in e.tiles)
        assert e.rates.get("bf16", 0) <= 1.01 * e.rates.get("fp8", math.inf)
        assert e.rates.get("fp8", 0) <= 1.01 * e.rates.get("fp4", math.inf)
        assert e.rates.get("tf32", 0) <= 1.01 * e.rates.get("fp16", math.inf)
        assert e.rates.get("fp64", 0) <= 1.01 * e.rates.get("fp32", math.inf)
        best = max(best, *e.rates.values())
    ridge = best / d.memory.bandwidth
    assert 0.1 < ridge < 2600, f"{ridge:.3g} operations a byte"


@pytest.mark.parametrize("name", [n for n in COMPUTING if re.search(r"\b\d+ ?GB\b", device(n).title)])
def test_memory_is_near_what_the_box_says(name: str) -> None:
    nominal = float(re.findall(r"\b(\d+) ?GB\b", device(name).title)[0]) * 1e9
    assert 0.9 < device(name).memory.capacity / nominal < 1.1


@pytest.mark.parametrize(
    ("name", "bits", "gigabits_per_pin"),
    [
        ("p100-sxm", 4096, 1.43),
        ("v100-sxm-16gb", 4096, 1.752),
        ("t4", 256, 10.0),
        ("a10", 384, 12.5),
        ("a40", 384, 14.5),
        ("v100-pcie-16gb", 4096, 1.752),
        ("rtx-a6000", 384, 16.0),
        ("rtx-6000-ada", 384, 20.0),
        ("rtx-3090", 384, 19.5),
        ("rtx-4090", 384, 21.0),
        ("rtx-5090", 512, 28.0),
        ("l4", 192, 12.5),
        ("l40s", 384, 18.0),
        ("a100-sxm-40gb", 5120, 2.43),
        ("a100-sxm-80gb", 5120, 3.186),
        ("h100-sxm", 5120, 5.235),
        ("h200-sxm", 6144, 6.25),
        ("b200-sxm", 8192, 7.8125),
        ("mi250x", 8192, 3.2),
        ("mi300x", 8192, 5.2),
        ("mi325x", 8192, 5.86),
        ("rx-7900-xtx", 384, 20.0),
        ("apple-m1", 128, 4.266),
        ("apple-m4-max", 512, 8.533),
        ("jetson-nano", 64, 3.2),
        ("jetson-orin-agx-64gb", 256, 6.4),
        ("raspberry-pi-5", 32, 4.267),
        ("xeon-8480", 512, 4.8),
        ("epyc-9654", 768, 4.8),
        ("epyc-7742", 512, 3.2),
    ],
)
def test_bandwidth_is_bus_width_times_pin_rate(name: str, bits: int, gigabits_per_pin: float) -> None:
    assert device(name).memory.bandwidth == pytest.approx(bits * gigabits_per_pin * 1e9 / 8, rel=0.02)


@pytest.mark.parametrize(
    ("name", "dtype", "units", "multiply_adds", "clock"),
    [
        ("v100-sxm-16gb", "fp16", 80, 512, 1.53e9),
        ("v100-pcie-16gb", "fp16", 80, 512, 1.38e9),
        ("rtx-6000-ada", "fp16", 142, 512, 2.505e9),
        ("t4", "fp16", 40, 512, 1.59e9),
        ("a100-sxm-80gb", "bf16", 108, 1024, 1.41e9),
        ("a30", "fp16", 56, 1024, 1.44e9),
        ("a10", "fp16", 72, 512, 1.695e9),
        ("rtx-3090", "fp16", 82, 256, 1.695e9),
        ("rtx-4090", "fp16", 128, 256, 2.52e9),
        ("rtx-5090", "fp16", 170, 256, 2.407e9),
        ("h100-sxm", "bf16", 132, 2048, 1.83e9),
        ("h100-sxm", "fp8", 132, 4096, 1.83e9),
        ("h100-pcie", "bf16", 114, 2048, 1.62e9),
        ("mi300x", "fp16", 304, 1024, 2.1e9),
        ("mi250x", "fp16", 220, 512, 1.7e9),
        ("mi355x", "fp16", 256, 2048, 2.4e9),
        ("tpu-v3", "bf16", 4, 128 * 128, 0.94e9),
        ("tpu-v4", "bf16", 8, 128 * 128, 1.05e9),
        ("tpu-v5p", "bf16", 8, 128 * 128, 1.75e9),
        ("gaudi2", "bf16", 2, 256 * 256, 1.65e9),
        ("gaudi3", "bf16", 8, 256 * 256, 1.75e9),
        ("xeon-8480", "bf16", 56, 512, 2.0e9),
        ("groq-lpu", "fp16", 4, 320 * 320 / 4, 0.9e9),
    ],
)
def test_peak_is_units_times_width_times_clock(
    name: str, dtype: str, units: int, multiply_adds: float, clock: float
) -> None:
    d = device(name)
    engine = next(e for e in d.engines if e.kind == "matrix")
    assert engine.units == units
    assert engine.rates[dtype] == pytest.approx(units * multiply_adds * 2 * clock, rel=0.03)


def test_export_parts_differ_only_where_export_rules_say() -> None:
    h100, h800 = device("h100-sxm"), device("h800")
    assert h800.memory == h100.memory
    up, cut = h100.link("scale-up"), h800.link("scale-up")
    assert up is not None and cut is not None
    assert (up.bandwidth, cut.bandwidth) == (450e9, 200e9)
    assert h800.engines[0].rates["bf16"] == h100.engines[0].rates["bf16"]


def test_names_of_parts_and_aliases_are_unambiguous() -> None:
    owner: dict[str, str] = {}
    for folder in (CATALOG, SYSTEMS):
        for path in folder.glob("*.yaml"):
            data = read_mapping(path)  # untrusted: also holds every file to the hostile-input rules
            for name in (path.stem, *data.get("aliases", ())):
                bare = re.sub(r"[^a-z0-9+]", "", name)
                assert owner.setdefault(bare, path.stem) == path.stem, f"{name} names two machines"


@pytest.mark.parametrize("name", system_names())
def test_systems_are_whole(name: str) -> None:
    s = system(name)
    assert s.source and isinstance(s.device, Device)
    assert s.nodes * s.per_node >= s.count > (s.nodes - 1) * s.per_node
    assert s.per_node == 1 or s.scale_up is not None
    assert s.nodes == 1 or s.scale_out is not None
    if s.scale_up and s.scale_out:
        assert s.scale_up.domain >= s.per_node
        assert s.scale_up.bandwidth > s.scale_out.bandwidth
