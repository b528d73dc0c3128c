"""A machine as a graph: every catalog entry has one, its paths are bounded by what they cross, arrays go through."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.machines.test_machine_load import write

from tierwise.core.errors import BadField, UnknownName
from tierwise.machines import device, device_names, system, system_names
from tierwise.machines.graph import MachineGraph, graph
from tierwise.machines.schema import PASSIVE
from tierwise.machines.types import System


@pytest.mark.parametrize("name", [*device_names(), *system_names()])
def test_every_machine_is_a_graph_whose_memories_reach_what_computes(name: str) -> None:
    s = system(name)
    g = graph(s)
    assert [n.name for n in g.computes() if n.name in {e.name for e in s.device.engines}]  == [
        e.name for e in s.device.engines
    ] or s.device.kind in PASSIVE  # fmt: skip
    for t in s.device.tiers:
        assert g.nodes[t.name].capacity == t.capacity
    for sink in s.device.engines:
        for node in g.memories():
            way = g.path(node.name, sink.name)
            assert 0.0 < way.bandwidth <= node.bandwidth
            if node.name in {t.name for t in s.device.tiers}:
                assert way.bandwidth == pytest.approx(node.bandwidth)  # near tiers keep up with far ones
                assert way.latency == pytest.approx(node.latency)  # a tier's latency is what engines see
    for e in g.edges:
        assert any(x.of == e.to and x.to == e.of and x.name == e.name for x in g.edges), "both directions"


def test_the_host_is_behind_its_link_and_without_limit_until_a_system_states_it(tmp_path: Path) -> None:
    g = graph(system("h100-sxm"))
    assert g.nodes["host"].capacity == math.inf and "not state" in g.nodes["host"].source
    assert g.path("host", "tensor").bandwidth == 63e9
    assert g.path("host", "tensor").latency == pytest.approx(2e-6 + 273e-9)
    text = """
title: A server
device: h100-sxm
count: 8
source: "a made-up server"
host: {cpu: epyc-9654, sockets: 2, memory: 1.5TB, storage: [nvme-gen4, nvme-gen4], source: "a made-up server"}
"""
    s = system(write(tmp_path, text, "server.yaml"))
    g = graph(s)
    host, cpu = g.nodes["host"], system("epyc-9654").device
    assert (host.capacity, host.bandwidth, host.shared) == (1.5e12, 2 * cpu.memory.bandwidth, 8)
    assert g.nodes["host-avx2"].rates["fp32"] == 2 * cpu.engines[0].rates["fp32"]
    assert g.path("host", "host-avx2").bandwidth == pytest.approx(2 * cpu.memory.bandwidth)
    disk = system("nvme-gen4").device.tiers[0]
    for name in ("nvme", "nvme-2"):
        assert g.path(name, "tensor").bandwidth == disk.bandwidth
        assert g.path("hbm", name).bandwidth == disk.write_bandwidth
        assert [e.of for e in g.path(name, "hbm").edges] == [name, "host"]


@pytest.mark.parametrize("name", ["h100-sxm", "a100-pcie-80gb"])
@pytest.mark.parametrize("first", [True, False])
def test_a_copy_from_the_host_takes_the_fastest_link_to_it(name: str, first: bool) -> None:
    plain = system(name)
    slot = plain.device.link("host")
    assert slot is not None
    fast = replace(slot, name="c2c", bandwidth=450e9)
    links = (fast, *plain.device.links) if first else (*plain.device.links, fast)
    both = replace(plain, device=replace(plain.device, links=links))
    assert graph(both).path("host", "tensor").bandwidth == 450e9


@pytest.mark.parametrize(("name", "each_way"), [("gh200", 450e9), ("gb200", 225e9), ("gb300", 225e9)])
def test_a_superchip_reaches_its_grace_over_c2c(name: str, each_way: float) -> None:
    """900 GB/s both ways between a Grace and the one Hopper, or the two Blackwells, beside it (NVIDIA's datasheets)."""
    assert [x.name for x in device(name).links if x.kind == "host"] == ["nvlink-c2c"]
    assert graph(system(name)).path("host", "tensor").bandwidth == each_way


def test_peers_are_reached_over_the_link_or_through_the_host() -> None:
    near, far = graph(system("16xh100-sxm")), graph(system("4xrtx-5090"))
    assert near.nodes["peers"].capacity == 7 * near.nodes["hbm"].capacity
    assert near.nodes["remote"].capacity == 8 * near.nodes["hbm"].capacity
    assert near.path("peers", "hbm").bandwidth == 450e9 and near.path("remote", "hbm").bandwidth == 50e9
    assert [e.of for e in near.path("peers", "hbm").edges] == ["peers"]
    assert [e.of for e in far.path("peers", "gddr").edges] == ["peers", "host"]
    assert "peers" not in graph(system("h100-sxm")).nodes


def test_a_memory_that_computes_is_one_node_with_both() -> None:
    g = graph(system("hbm-pim"))
    banks = g.nodes["banks"]
    assert banks.holds and banks.computes and g.computes() == (banks,)
    assert (banks.units, banks.rates) == (128, {"fp16": 1.2e12})
    assert g.path("banks", "banks").bandwidth == banks.bandwidth
    assert g.path("host", "banks").bandwidth == 307.2e9


def test_flash_streams_into_the_memory_of_a_microcontroller() -> None:
    g = graph(system("stm32f746"))
    assert g.path("flash", "dsp").bandwidth == 0.49e9
    assert g.path("dsp", "flash").bandwidth == 100e3


def test_a_way_that_is_not_there_says_which_are() -> None:
    g = graph(system("h100-sxm"))
    with pytest.raises(UnknownName, match="did you mean 'hbm'"):
        g.path("hbm3", "tensor")


def with_tier(s: System, kind: str, **factors: object) -> System:
    def changed(t: object) -> object:
        return replace(t, **{k: getattr(t, k) * f for k, f in factors.items()})  # type: ignore[type-var]

    return s.with_device(tiers=tuple(changed(t) if t.kind == kind else t for t in s.device.tiers))


def test_every_number_may_be_an_array() -> None:
    many = np.array([0.5, 1.0, 1.5])
    s = with_tier(system("16xh100-sxm"), "memory", bandwidth=many, write_bandwidth=many, capacity=many, latency=many)
    engines = tuple(
        replace(e, units=e.units * np.array([1, 2, 3]), rates={k: v * many for k, v in e.rates.items()})
        for e in s.device.engines
    )
    links = tuple(replace(x, bandwidth=x.bandwidth * many) for x in s.device.links)
    assert s.scale_up is not None and s.scale_out is not None
    s = replace(
        s.with_device(engines=engines, links=links),
        count=np.array([16, 24, 32]),
        scale_up=replace(s.scale_up, bandwidth=s.scale_up.bandwidth * many),
        scale_out=replace(s.scale_out, bandwidth=s.scale_out.bandwidth * many),
        power_cap=np.array([300.0, 700.0, 900.0]),
    )
    g = graph(s)
    for i, f in enumerate(many):
        one = with_tier(
            system(f"{16 + 8 * i}xh100-sxm"), "memory", bandwidth=f, write_bandwidth=f, capacity=f, latency=f
        )
        alone = graph(one)
        assert at(g, "hbm", "tensor", i) == pytest.approx(alone.path("hbm", "tensor").bandwidth)
        assert np.asarray(g.path("hbm", "tensor").latency)[i] == pytest.approx(alone.path("hbm", "tensor").latency)
        assert at(g, "host", "tensor", i) == pytest.approx(63e9 * f)
        assert at(g, "remote", "hbm", i) == pytest.approx(50e9 * f)
        assert np.asarray(g.nodes["remote"].capacity)[i] == pytest.approx(alone.nodes["remote"].capacity)
    assert np.asarray(s.device.unit_share).tolist() == pytest.approx((3.35e12 * many / [132, 264, 396]).tolist())
    assert np.asarray(s.nodes).tolist() == [2, 3, 4]
    assert np.asarray(s.power.rated).tolist() == [300.0, 700.0, 700.0]


def at(g: MachineGraph, a: str, b: str, i: int) -> float:
    return float(np.asarray(g.path(a, b).bandwidth)[i])


# ---------------------------------------------------------------- what is true of a system alone


def test_facts_of_a_system_stay_with_it(tmp_path: Path) -> None:
    text = """
title: A workstation
device: rtx-5090
count: 2
source: "a made-up workstation"
scale_up: {peer: true, source: "measured: the IOMMU is off"}
host_link: {bandwidth: 31.5GB/s, source: "the second slot is x8"}
power_cap: 400W
clock: 2000MHz
"""
    s, plain = system(write(tmp_path, text, "desk.yaml")), system("2xrtx-5090")
    assert s.scale_up is not None and plain.scale_up is not None
    assert (s.scale_up.peer, plain.scale_up.peer) == (True, False)
    assert s.scale_up.name == plain.scale_up.name and s.scale_up.bandwidth == 31.5e9  # the same slot
    assert graph(s).path("host", "gddr").bandwidth == 31.5e9
    assert (s.power.rated, plain.power.rated) == (400.0, 575.0)
    slower = 2e9 / plain.device.clock
    assert s.device.engines[0].rates["bf16"] == pytest.approx(plain.device.engines[0].rates["bf16"] * slower)
    assert s.device.memory == plain.device.memory and s.device.clock == pytest.approx(2e9)
    assert s.device.tiers[0].bandwidth == pytest.approx(plain.device.tiers[0].bandwidth * slower)
    twice = system("2x" + str(tmp_path / "desk.yaml"))
    assert (twice.power_cap, twice.clock, twice.count) == (400.0, 2e9, 4)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("power_cap: 10W", r"power_cap: found 10.0; allowed: more than the 70 W"),
        ("clock: 9GHz", r"clock.*at most 1.98e\+09"),
        ("host: {source: a test of mine}", r"host\.memory: found 'nothing'"),
        ("host: {memory: 1TB, storage: [h100-sxm], source: a test of mine}", r"host\.storage\[0\].*kind storage"),
        ("scale_up: {bandwith: 1GB/s, source: a test}", "did you mean 'bandwidth'"),
    ],
)
def test_what_a_system_cannot_be(tmp_path: Path, line: str, says: str) -> None:
    text = f"title: x\ndevice: h100-sxm\ncount: 2\nsource: a test of mine\n{line}\n"
    with pytest.raises(BadField, match=says):
        system(write(tmp_path, text, "x.yaml"))


def test_a_part_of_a_link_that_is_not_there_cannot_change(tmp_path: Path) -> None:
    text = (
        "title: x\ndevice: stm32f746\ncount: 2\nsource: a test of mine\nscale_out: {bandwidth: 1GB/s, source: a test}\n"
    )
    with pytest.raises(BadField, match="no such link"):
        system(write(tmp_path, text, "x.yaml"))
