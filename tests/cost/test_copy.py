"""Copies between nodes: the narrowest port sets the pace, and a place no path leads to is an error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tierwise.core.errors import TierwiseError
from tierwise.core.numerics import fmt
from tierwise.cost import Target, efficiency, price
from tierwise.machines import device, system
from tierwise.machines.types import Host, System, Tier
from tierwise.program.types import Op, Operand


def on(machine: System) -> Target:
    return Target(machine, efficiency(machine.device))


def copy(size: float, source: str, to: str, transfers: float = 1.0) -> Op:
    dims = {"bytes": size, "transfers": transfers}
    return Op("copy", "copy", "copy", dims, 0.0, (), (), "", options={"from": source, "to": to})


def with_storage(machine: System, **changes: float) -> System:
    numbers = {"capacity": 1e12, "bandwidth": 8e9, "write_bandwidth": 2e9, "latency": 1e-4, "energy": 1e-11}
    tier = Tier("nvme", "storage", **{**numbers, **changes}, source="a test")
    return replace(machine, device=replace(machine.device, tiers=(*machine.device.tiers, tier)))


def test_of_several_links_to_the_host_a_copy_takes_the_fastest(machine: Callable[..., System]) -> None:
    plain = machine("h100-sxm")
    slot = plain.device.link("host")
    assert slot is not None
    more = replace(slot, name="c2c", bandwidth=450e9)
    for links in ((more, *plain.device.links), (*plain.device.links, more)):
        both = on(replace(plain, device=replace(plain.device, links=links)))
        assert price(copy(45e9, "host", ""), both).time == pytest.approx(0.1 / both.efficiency.link, rel=1e-3)


def test_from_the_host_takes_its_link(machine: Callable[..., System]) -> None:
    target = on(machine("a100-80gb"))
    link = target.device.link("host")
    assert link is not None
    cost = price(copy(1e9, "host", ""), target)
    assert cost.time == pytest.approx(1e9 / (link.bandwidth * target.efficiency.link) + link.latency)
    assert cost.bound_by == "host.in" and cost.bytes["host.in"] == cost.bytes["hbm"] == 1e9


def test_reading_a_drive_and_writing_it_pay_their_own_bandwidth(machine: Callable[..., System]) -> None:
    target = on(with_storage(machine("a100-80gb")))
    reached = target.efficiency.of("memory", "copy")
    assert price(copy(8e9, "nvme", ""), target).busy == pytest.approx(1.0 / reached)
    assert price(copy(8e9, "", "nvme"), target).busy == pytest.approx(4.0 / reached)


def test_a_copy_into_memory_that_writes_slowly_pays_for_it_once(machine: Callable[..., System]) -> None:
    target = on(machine("a100-80gb", write_bandwidth=1e9))
    buffered = replace(copy(1e9, "host", ""), writes=(Operand("buffer", "copy", 5e8, fmt("bf16")),))
    assert price(buffered, target).busy == pytest.approx(1.0 / target.efficiency.of("memory", "copy"))


def test_many_small_transfers_pay_the_latency_of_each(machine: Callable[..., System]) -> None:
    target = on(with_storage(machine("a100-80gb"), latency=1e-3))
    one, many = (price(copy(1e6, "nvme", "", n), target).time for n in (1.0, 1000.0))
    # The drive's latency is the engines'; into the memory it is less by what the memory adds.
    assert many - one == pytest.approx(999 * (1e-3 - target.memory.latency))


def test_nothing_copied_costs_nothing(machine: Callable[..., System]) -> None:
    assert price(copy(0.0, "host", ""), on(machine("a100-80gb"))).time == 0.0


def test_a_device_without_a_link_to_the_host_says_so(machine: Callable[..., System]) -> None:
    found = machine("a100-80gb")
    alone = replace(found, device=replace(found.device, links=()))
    with pytest.raises(TierwiseError, match="no link to a host"):
        price(copy(1.0, "host", ""), on(alone))
    with pytest.raises(TierwiseError, match="no node 'nvme'"):
        price(copy(1.0, "nvme", ""), on(found))


def test_an_operand_read_in_place_on_the_host_pays_the_link(machine: Callable[..., System]) -> None:
    target = on(machine("a100-80gb"))
    size = 1e9
    half = fmt("bf16")
    here = Op("elementwise", "x", "attn", {}, 0.0, (Operand("x", "weight", size, half),), (), "fp32")
    there = replace(here, reads=(Operand("x", "host", size, half),))
    link = target.device.link("host")
    assert link is not None
    assert price(there, target).time >= 2 * size / link.bandwidth > 10 * price(here, target).time


def elementwise(read: float, wrote: float) -> Op:
    half = fmt("bf16")
    reads, writes = (Operand("a", "kv", read, half),), (Operand("b", "kv", wrote, half),)
    return Op("elementwise", "x", "attn", {}, 0.0, reads, writes, "fp32")


def test_writes_pay_the_bandwidth_of_writing(machine: Callable[..., System]) -> None:
    even = on(machine("hbm-pim"))
    slow = on(machine("hbm-pim", write_bandwidth=1.0))
    reached = even.efficiency.of("memory", "*")
    assert price(elementwise(1e6, 500.0), slow).time == pytest.approx(1000.0 / reached, rel=1e-3)
    assert price(elementwise(1e6, 0.0), slow).time == price(elementwise(1e6, 0.0), even).time


def test_a_tier_that_writes_as_fast_as_it_reads_is_priced_as_before(machine: Callable[..., System]) -> None:
    target = on(machine("hbm-pim"))
    cost = price(elementwise(1e6, 1e6), target)
    assert cost.overlapped["banks"] == 4e6 / (target.memory.bandwidth * target.efficiency.of("memory", "elementwise"))


def test_fitted_kernels_pay_for_writes_too(machine: Callable[..., System]) -> None:
    half = fmt("bf16")
    m, n, k = 8192.0, 8192.0, 64.0
    op = Op("matmul", "x", "attn", {"m": m, "n": n, "k": k}, 2 * m * n * k,
            (Operand("a", "act", m * k, half), Operand("w", "weight", n * k, half)),
            (Operand("c", "act", m * n, half),), "bf16")  # fmt: skip
    even, slow = on(machine("h100-sxm")), on(machine("h100-sxm", write_bandwidth=1e10))
    assert price(op, even).basis == price(op, slow).basis == "calibrated"
    assert price(op, slow).time >= m * n * 2 / 1e10


def pim(machine: System, inside: float, bus: float) -> System:
    """A device whose memory gives ``bus`` bytes/s, and beside it memory that computes, with ``inside`` bytes/s."""
    main = replace(machine.device.memory, bandwidth=bus, write_bandwidth=bus)
    tier = Tier("pim", "memory", 64e9, inside, inside, 1e-7, 1e-12, "a test", {"bf16": 1e15})
    others = tuple(main if t is machine.device.memory else t for t in machine.device.tiers)
    return replace(machine, device=replace(machine.device, tiers=(*others, tier)))


@pytest.mark.parametrize("faster", [4.0, 0.25])
def test_attention_in_memory_beats_the_bus_just_when_it_is_faster_inside(faster: float) -> None:
    bus = 1e12
    target = on(pim(system("a100-80gb"), bus * faster, bus))
    half = fmt("bf16")
    tokens, heads, width = 100_000.0, 32.0, 128.0
    cached = tokens * heads * width
    op = Op("attention", "core", "attn",
            {"batch": 1.0, "heads": heads, "kv_heads": heads, "q": 1.0, "kv": tokens, "head_dim": width, "v_dim": width,
             "columns": tokens, "window": float("inf")},
            4.0 * heads * width * tokens,
            (Operand("q", "act", heads * width, half), *(Operand(x, "kv", cached, half) for x in ("k", "v"))),
            (Operand("o", "act", heads * width, half),), "bf16", options={"phase": "decode"})  # fmt: skip
    there = price(replace(op, options={**op.options, "on": "pim"}), target)
    sent = sum(float(price(copy(heads * width * 2, *way), target).time) for way in (("", "pim"), ("pim", "")))
    here = price(op, target)
    assert there.bytes["pim"] >= 4 * cached
    assert there.time == pytest.approx(4 * cached / (bus * faster * target.efficiency.of("memory", "*")), rel=0.05)
    assert (there.time + sent < here.time) == (faster > 1)


def test_nothing_is_computed_where_nothing_computes(machine: Callable[..., System]) -> None:
    with pytest.raises(TierwiseError, match="nothing computes on 'hbm'"):
        price(replace(elementwise(1.0, 1.0), options={"on": "hbm"}), on(machine("a100-80gb")))


def test_attention_on_the_host_runs_at_the_share_of_its_memory(machine: Callable[..., System]) -> None:
    found = machine("8xa100-80gb")
    cpu = device("epyc-9654")
    host = Host(1e12, 4e11, cpu, 2, (), "a test")
    on8 = on(replace(found, host=host))
    half = fmt("bf16")
    op = Op("elementwise", "x", "attn", {}, 0.0, (Operand("k", "kv", 1e9, half),), (), "fp32", options={"on": "host"})
    cost = price(op, on8)
    # Eight devices share 400 GB/s; two sockets alone would give more.
    reached = efficiency(cpu).of("memory", "elementwise")
    assert cost.overlapped[cpu.memory.name] == pytest.approx(2e9 / (4e11 / 8 * reached))
    away = price(copy(1e9, "host", ""), on8)
    assert away.bound_by == "host.in" and away.overlapped["host"] < away.overlapped["host.in"]


def test_memory_that_is_not_pinned_halves_the_link_and_nothing_else(machine: Callable[..., System]) -> None:
    target = on(machine("a100-80gb"))
    plain = copy(1e9, "host", "")
    loose = replace(plain, options={**plain.options, "pageable": True})
    fast, slow = price(plain, target), price(loose, target)
    assert slow.overlapped["host.in"] == pytest.approx(2.0 * fast.overlapped["host.in"])
    assert slow.overlapped["hbm"] == fast.overlapped["hbm"] and slow.serial == fast.serial


def test_what_is_gathered_is_copied_once_more_on_the_device(machine: Callable[..., System]) -> None:
    target = on(machine("a100-80gb"))
    plain = copy(1e9, "host", "")
    once = price(plain, target)
    twice = price(replace(plain, options={**plain.options, "gathered": True}), target)
    assert twice.overlapped == once.overlapped
    # Read and written again, and not before it has come.
    more = sum(twice.serial.values()) - sum(once.serial.values())
    assert more >= 2e9 / target.memory.bandwidth
    assert twice.bytes["hbm"] == pytest.approx(once.bytes["hbm"] + 2e9)
