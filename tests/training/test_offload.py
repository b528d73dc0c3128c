"""Training with states in the host's memory: what leaves the device arrives there, and copies are waited for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.training.shapes import a100s, gpt
from tierwise.core.errors import BadField
from tierwise.machines.load import system
from tierwise.machines.types import Host
from tierwise.training import Layout, TrainingFramework, train_step
from tierwise.training.layout import check
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


DISKS = "4xa100-sxm-40gb + epyc-7742 + {}x nvme-gen4-dc"


def on_disks(count: int, **changes: float) -> TrainStep:
    base = replace(BASE, dp=4.0, global_batch=4.0, offload=2.0, offload_disk=1.0)
    x = replace(base, **changes)  # type: ignore[arg-type]
    return train_step(MODEL, system(DISKS.format(count)), x, PLAIN)


def test_states_on_disks_are_read_updated_and_written() -> None:
    one, two = on_disks(1), on_disks(2)
    own = float(MODEL.parameters) / 4.0
    # Twelve bytes of states come in and go out with two of the working weight, at no more than a drive's rated 6.8 and
    # 4.0 GB/s, which four devices share; a second drive halves that.
    least = 4.0 * own * (12.0 / 6.8e9 + 14.0 / 4.0e9)
    assert float(one.parts["update"]) > least
    saved = float(one.parts["update"] - two.parts["update"])
    assert saved == pytest.approx(least / 2.0, rel=0.15) and saved > least / 2.0
    # What was in the host's memory is on the disks: gradients apart, which the host has to hold.
    near = train_step(MODEL, system(DISKS.format(1)), replace(BASE, dp=4.0, global_batch=4.0, offload=2.0), PLAIN)
    assert float(one.memory.peak) == float(near.memory.peak)
    assert float(one.memory.host + one.memory.disk) == pytest.approx(float(near.memory.host))
    assert 0.0 < float(one.memory.host) <= 4.0 * own


def test_what_disks_cannot_hold_does_not_fit() -> None:
    huge = gpt(400, 16384.0, 128.0, tied=False)  # over a trillion parameters: 18 TB of states
    x = replace(BASE, dp=4.0, global_batch=4.0, offload=2.0, offload_disk=1.0, recompute=2.0, offload_activations=1.0)
    few, many = (train_step(huge, system(DISKS.format(n)), x, PLAIN).memory for n in (1, 12))
    assert float(few.disk) > few.disk_capacity and not bool(few.fits)
    assert float(many.disk) <= many.disk_capacity


def test_an_early_update_hides_behind_the_backward_pass() -> None:
    late, early = on_disks(4), on_disks(4, early_update=1.0)
    assert float(early.time) < float(late.time)
    # Nothing is faster than the disks, nor than the passes alone.
    own = float(MODEL.parameters) / 4.0
    assert float(early.time) > own * 4.0 * (12.0 / 6.8e9 + 14.0 / 4.0e9) / 4.0
    long = on_disks(12, early_update=1.0, micro_batch=16.0, global_batch=64.0, recompute=2.0)
    assert float(long.parts["update"]) == 0.0
    # A layer's gradients are gone before the next come.
    assert float(early.memory.host) == 0.0


def polaris(**changes: float) -> TrainStep:
    node = replace(a100s(4), host=Host(512e9, 204.8e9, None, 1, (), "EPYC 7543P, eight channels of DDR4-3200"))
    x = replace(BASE, dp=4.0, global_batch=4.0, offload=1.0, **changes)  # type: ignore[arg-type]
    return train_step(MODEL, node, x, PLAIN)


@pytest.mark.parametrize(("every", "logged"), [(2, 0.905), (3, 0.956), (4, 1.001), (6, 1.018), (8, 1.036), (10, 1.056)])
def test_updates_that_device_and_host_share_take_what_was_logged(every: int, logged: float) -> None:
    """Nanoseconds a parameter of a process when every second to every tenth group of states is updated on the device:
    13B on four A100 (mauryaavinash95/deep-optimizer-states-results, act-output-13B-scale-gaps-a100, prefetch1: seconds
    of `step` over 11.316e9 / 4 parameters). What the host's memory reaches was chosen where it updates everything."""
    per = float(polaris(device_update=1.0 / every).parts["update"]) / (float(MODEL.parameters) / 4.0)
    assert 1e9 * per == pytest.approx(logged, rel=0.1)


def test_a_shared_update_on_another_machine_takes_what_was_logged() -> None:
    """0.338 ns a parameter of a process: 15.33B on four H100 in a host of two sockets with eight channels of DDR5-4800
    each, every second group on the device (its act-output-20B-scale-twinflow, ratio 1.0, prefetch1)."""
    x = replace(BASE, dp=4.0, global_batch=4.0, offload=1.0, device_update=0.5)
    found = train_step(MODEL, system("4xh100-sxm + 2x xeon-8480"), x, PLAIN).parts["update"]
    assert 1e9 * float(found) / (float(MODEL.parameters) / 4.0) == pytest.approx(0.338, rel=0.1)


def test_the_share_that_the_device_updates_has_a_best_value() -> None:
    """With a slow host's memory it pays to move states to the device; over a link that is slower still it does not."""
    shares = (0.0, 0.25, 0.5, 0.75, 1.0)
    times = [float(polaris(device_update=s).parts["update"]) for s in shares]
    assert min(times) < times[0]
    moved = 2.0 * 12.0 * float(MODEL.parameters) / 4.0
    assert float(polaris(device_update=1.0).parts["update"]) >= moved / (204.8e9 / 4.0)
    # Gradients of what the device updates stay there.
    whole, half = polaris().memory, polaris(device_update=0.5).memory
    assert float(half.peak) > float(whole.peak)
    assert float(half.peak + half.host) == pytest.approx(float(whole.peak + whole.host))


@pytest.mark.parametrize(("share", "logged", "divided"), [(0.5, 1.165, 0.684), (0.6, 1.375, 0.783), (0.7, 1.620, 0.903),
                                                          (0.8, 1.775, 0.998), (0.9, 2.004, 1.113)])  # fmt: skip
def test_a_share_of_the_states_takes_its_share_of_the_time(share: float, logged: float, divided: float) -> None:
    """Seconds of `step` of 15.33B on four H100 with a part of the states in the host's memory (its
    act-output-20B-scale-twinflow), the host updating them alone (2.268 for all), and every second group on the device
    (1.296)."""
    x = replace(BASE, dp=4.0, global_batch=4.0, offload=1.0)
    node = system("4xh100-sxm + 2x xeon-8480")
    for changes, part, whole in (({}, logged, 2.268), ({"device_update": 0.5}, divided, 1.296)):
        full, some = (
            train_step(MODEL, node, replace(x, offload_share=s, **changes), PLAIN).parts["update"]  # type: ignore[arg-type]
            for s in (1.0, share)
        )
        assert float(some) / float(full) == pytest.approx(part / whole, rel=0.1)
    whole, some = (train_step(MODEL, node, replace(x, offload_share=s), PLAIN).memory for s in (1.0, share))
    # The gradients of two layers stay on the device whatever the share.
    assert float(some.host) == pytest.approx(share * float(whole.host), rel=0.05)
    assert float(some.peak + some.host) == pytest.approx(float(whole.peak + whole.host))


def test_a_pass_that_waits_for_its_gradients_is_longer() -> None:
    waiting = replace(PLAIN, recipe=replace(PLAIN.recipe, waits=1.0))
    x = replace(BASE, offload=1.0)
    free, held = (train_step(MODEL, NODE, x, how) for how in (PLAIN, waiting))
    own = float(MODEL.parameters) / 8.0
    # Two bytes over the link, and the host reads two and writes four.
    assert float(held.time - free.time) > own * (2.0 / 32e9 + 6.0 / (400e9 / 8.0))
    plain = replace(x, zero=1.0)
    assert float(train_step(MODEL, NODE, plain, waiting).time) == float(train_step(MODEL, NODE, plain, PLAIN).time)


def test_what_has_no_states_away_from_the_device_is_refused() -> None:
    for wrong in ({"offload_disk": 1.0}, {"device_update": 0.5}, {"early_update": 1.0}, {"offload_share": 0.5}):
        with pytest.raises(BadField, match="offload"):
            check(replace(BASE, **wrong), 16.0, 32.0, 8.0)  # type: ignore[arg-type]
    with pytest.raises(BadField, match="share"):
        check(replace(BASE, offload=1.0, device_update=1.5), 16.0, 32.0, 8.0)
    with pytest.raises(BadField, match="disks"):
        step(offload=1.0, offload_disk=1.0)
