"""Numbers of a machine are felt end to end: what a tier spends on a byte, and how fast it writes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import tierwise as tw
from tierwise.machines.types import System

TRAFFIC = tw.Batch(512.0, 64.0, 8.0)


def with_memory(name: str, **factors: float) -> System:
    """A machine whose main memory has some of its numbers multiplied."""
    system = tw.load_system(name)
    tiers = tuple(
        replace(t, **{k: getattr(t, k) * x for k, x in factors.items()}) if t.kind == "memory" else t
        for t in system.device.tiers
    )
    return system.with_device(tiers=tiers)


def run(machine: Any, **plan: Any) -> tw.Result:
    return tw.evaluate(tw.Scenario("llama-3.1-8b", machine, TRAFFIC, tw.Plan(**plan)))


def test_energy_follows_the_energy_of_a_byte() -> None:
    plain, dear = run("h100-sxm"), run(with_memory("h100-sxm", energy=2.0))
    name = tw.load_system("h100-sxm").device.memory.name
    assert dear.energy_parts[name] == pytest.approx(2.0 * plain.energy_parts[name], rel=1e-9)
    assert dear.time == plain.time
    assert dear.energy - plain.energy == pytest.approx(plain.energy_parts[name], rel=1e-9)


def test_components_of_energy_are_a_sum_and_traffic_pays_its_joules() -> None:
    r = run("h100-sxm")
    memory = tw.load_system("h100-sxm").device.memory
    moved = sum(p.traffic[memory.name] * p.passes for p in r.phases)
    assert sum(r.energy_parts.values()) == pytest.approx(r.energy)
    assert r.energy_parts[memory.name] == pytest.approx(moved * memory.energy, rel=0.5)
    assert r.energy_interval[0] <= r.energy <= r.energy_interval[1]


def test_a_memory_too_dear_for_the_card_takes_time() -> None:
    plain, dear = run("h100-sxm"), run(with_memory("h100-sxm", energy=100.0))
    power = tw.load_system("h100-sxm").power
    assert dear.time > plain.time
    system = dear.energy_parts["system"]
    assert (dear.energy - system) / dear.time <= power.rated * (1 + 1e-9)


def test_what_writes_slowly_takes_at_least_its_bytes_over_the_bandwidth() -> None:
    """A prefill writes the keys and values of every token: at a thousandth of the bandwidth they alone take this."""
    system = with_memory("h100-sxm", write_bandwidth=1e-3)
    slow, plain = run(system), run("h100-sxm")
    cached = 8.0 * 512.0 * 32 * 2 * 8 * 128 * 2.0
    assert slow.ttft >= cached / system.device.memory.write_bandwidth > plain.ttft
    assert slow.tpot > plain.tpot
