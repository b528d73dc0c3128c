"""Training with states in the host's memory: what leaves the device arrives there, and copies are waited for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.training.shapes import a100s, gpt
from tierwise.core.errors import BadField
from tierwise.machines.types import Host
from tierwise.training import Layout, TrainingFramework, train_step
from tierwise.training.step import TrainStep

PLAIN = TrainingFramework("plain")
MODEL = gpt(16, 4096.0, 32.0, tied=False)
NODE = replace(a100s(8), host=Host(1e12, 400e9, None, 2, (), "test"))
BASE = Layout(dp=8.0, global_batch=8.0, seq=2048.0, zero=3.0)


def step(bandwidth: float = 400e9, **changes: float) -> TrainStep:
    node = replace(NODE, host=Host(1e12, bandwidth, None, 2, (), "test"))
    return train_step(MODEL, node, replace(BASE, **changes), PLAIN)  # type: ignore[arg-type]


def test_what_leaves_the_device_is_in_the_hosts_memory() -> None:
    plain = step()
    for level, acts in ((1.0, 0.0), (2.0, 0.0), (0.0, 1.0), (2.0, 1.0)):
        less = step(offload=level, offload_activations=acts)
        assert float(plain.memory.peak - less.memory.peak) == pytest.approx(float(less.memory.host))
        assert float(less.memory.host) > 0.0
    # All states: 12 bytes a parameter over eight devices (arXiv:2101.06840 moves what Adam keeps).
    assert float(step(offload=1.0).memory.parts["optimizer states"]) == 0.0
    assert float(step(offload=1.0).memory.host) >= 12.0 * float(MODEL.parameters) / 8.0


def test_the_update_takes_what_the_hosts_memory_and_the_link_allow() -> None:
    endless, fast, slow = (float(step(b, offload=1.0).parts["update"]) for b in (1e18, 800e9, 400e9))
    # What the link takes for fp32 weights stays; the rest is the memory's.
    assert slow - endless == pytest.approx(2.0 * (fast - endless), rel=1e-6)
    own = float(MODEL.parameters) / 8.0
    # No memory reads and writes gradients (to unscale them), gradients again, and three states faster than it is rated.
    assert slow - endless > own * (8.0 + 4.0 + 2.0 * 12.0) / (400e9 / 8.0)
    assert endless > 4.0 * own / 32e9
    assert float(step(offload=1.0).time) > float(step().time)


def test_an_update_on_a_polaris_node_takes_what_deepspeed_logged() -> None:
    """1.32 ns a parameter of a process (7B to 20B on four A100, mauryaavinash95/deep-optimizer-states-results)."""
    node = replace(a100s(4), host=Host(512e9, 204.8e9, None, 1, (), "EPYC 7543P, eight channels of DDR4-3200"))
    found = train_step(MODEL, node, replace(BASE, dp=4.0, global_batch=4.0, offload=1.0), PLAIN)
    per = float(found.parts["update"]) / (float(MODEL.parameters) / 4.0)
    assert per == pytest.approx(1.32e-9, rel=0.1)


def test_copies_are_hidden_behind_work_as_far_as_it_lasts() -> None:
    # A longer sequence has more work for the same weights; its own activations grow with it.
    short, long = (step(offload=2.0, seq=s).parts["copies to the host"] for s in (64.0, 8192.0))
    assert float(short) > 0.0 and float(long) == 0.0
    kept = step(offload_activations=1.0)
    assert float(kept.parts["copies to the host"]) > 0.0


def test_a_host_that_is_too_small_does_not_fit() -> None:
    small = replace(NODE, host=Host(1e9, 400e9, None, 2, (), "test"))
    assert not bool(train_step(MODEL, small, replace(BASE, offload=1.0), PLAIN).memory.fits)
    assert bool(step(offload=1.0).memory.fits)


def test_a_host_that_nobody_described_is_asked_for() -> None:
    with pytest.raises(BadField, match="host"):
        train_step(MODEL, a100s(8), replace(BASE, offload=1.0), PLAIN)
    # Its link is enough for activations.
    assert float(train_step(MODEL, a100s(8), replace(BASE, offload_activations=1.0), PLAIN).memory.host) > 0.0
