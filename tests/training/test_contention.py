"""Collectives beside a layer's work, and parameters that come back after an update: known seconds on the wire."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.training.shapes import a100s, gpt
from tierwise.machines.load import system
from tierwise.training import Layout, TrainingFramework, TrainStep, framework, frameworks, train_step
from tierwise.training.contention import channels, taken
from tierwise.training.memory import parameters
from tierwise.training.recipe import Recipe
from tierwise.training.step import engine_on, exchange
from tierwise.training.work import KERNELS, plan_of

MODEL = gpt(8, 2048.0, 16.0)
SHARDED = Layout(dp=8.0, global_batch=32.0, micro_batch=2.0, seq=2048.0, zero=3.0)


def made(x: Layout, contended: float = 0.0, **recipe: float) -> TrainStep:
    how = TrainingFramework("plain", Recipe(**recipe), contended=contended, exposed=0.0)  # type: ignore[arg-type]
    return train_step(MODEL, a100s(int(x.dp)), x, how)


def wire(kind: str, size: float, x: Layout) -> float:
    on = engine_on(MODEL, plan_of(x), a100s(int(x.dp)), KERNELS).target
    return float(np.asarray(exchange(on, kind, size, x.dp, 1.0)))


def test_work_beside_a_gathering_is_longer_by_what_the_library_takes_of_the_device() -> None:
    layer = float(parameters(MODEL, SHARDED)[0]["layer"])
    # A layer is gathered for the forward pass and for the backward one, in 16 bits, and its gradients are scattered in
    # fp32. Of an A100's 108 multiprocessors NCCL has 24 on one node; what is gathered is written and read, what is
    # reduced written, read beside a device's own, and read.
    wires = 2.0 * wire("all_gather", 2.0 * layer, SHARDED) + wire("reduce_scatter", 4.0 * layer, SHARDED)
    each = 24.0 / 108.0 * wires + (2.0 * 2.0 * 2.0 + 3.0 * 4.0) * layer / 2039e9
    whole = 8 * 2 * each  # layers, micro-batches
    found = [float(np.asarray(made(SHARDED, c).parts["parameters on the wire"])) for c in (0.0, 0.5, 1.0, 2.0)]
    assert found[0] == 0.0
    assert found[1:] == pytest.approx([0.5 * whole, whole, 2.0 * whole], rel=0.01)
    # Frozen weights are gathered and have no gradients, unless a unit has some that are trained.
    gathers = 24.0 / 108.0 * 2.0 * wire("all_gather", 2.0 * layer, SHARDED) + 2.0 * 2.0 * 2.0 * layer / 2039e9
    alone, mixed = (made(SHARDED, 1.0, rank=1e-9, mixed=m).parts["parameters on the wire"] for m in (0.0, 1.0))
    assert (float(alone), float(mixed)) == pytest.approx((8 * 2 * gathers, whole), rel=0.01)
    # What is not divided over devices gathers nothing.
    assert float(np.asarray(made(replace(SHARDED, zero=1.0), 0.5).parts["parameters on the wire"])) == 0.0


@pytest.mark.parametrize(
    ("machine", "group", "stride", "logged"),
    [("8xa100-sxm-80gb", 8, 1, 24), ("8xh100-sxm", 8, 1, 24), ("16xh100-sxm", 16, 1, 16), ("16xh100-sxm", 8, 1, 24),
     ("16xa100-sxm-80gb", 16, 1, 16), ("2xaws-p4de.24xlarge", 16, 1, 4), ("8xa100-pcie-80gb", 8, 1, 2),
     ("16xh100-sxm", 2, 8, 16)],
)  # fmt: skip
def test_channels_are_those_of_the_slowest_level(machine: str, group: int, stride: int, logged: int) -> None:
    """Channels that NCCL logs ("coll channels"): 24 on a node, 16 with eight ports of a network, 2 over PCIe; a slow
    network's ports have fewer."""
    on = engine_on(MODEL, plan_of(SHARDED), system(machine), KERNELS).target
    assert float(np.asarray(channels(on, float(group), float(stride)))) == logged


def test_the_same_wire_takes_less_of_a_device_where_few_ports_lead_outside() -> None:
    machines = ("16xa100-sxm-80gb", "2xaws-p4de.24xlarge")
    fast, slow = (engine_on(MODEL, plan_of(SHARDED), system(m), KERNELS).target for m in machines)
    size = 1e9
    of = [taken(on, "all_gather", 0.1, size, 16.0, 1.0) for on in (fast, slow)]
    assert float(of[1].work) < 0.5 * float(of[0].work) and of[0].wire == of[1].wire
    # A TPU's few units send nothing themselves: its memory alone is shared.
    chip = engine_on(MODEL, plan_of(SHARDED), system("8xtpu-v4"), KERNELS).target
    alone = taken(chip, "all_gather", 0.1, size, 8.0, 1.0)
    assert float(alone.work) == pytest.approx(2.0 * size / float(chip.memory.bandwidth))
    # A group of one sends nothing.
    assert float(taken(fast, "all_gather", 0.0, size, 1.0, 1.0).work) == 0.0


def test_what_is_longer_than_the_work_is_waited_for_and_no_more() -> None:
    slow = replace(SHARDED, micro_batch=1.0, global_batch=8.0, seq=16.0)
    alone, shared = made(slow), made(slow, 0.5)
    assert 0.0 < float(alone.time) == pytest.approx(float(shared.time))
    # However much is shared, nothing takes longer than work and wire one after the other.
    long = [float(made(SHARDED, c).time) for c in (0.0, 0.5, 1.0)]
    assert long == sorted(long)


def test_parameters_come_back_after_the_update_unless_the_framework_hides_it() -> None:
    x = replace(SHARDED, zero=1.0)
    hidden, shown, turns = (
        float(np.asarray(made(x, **r).parts["gradients on the wire"]))
        for r in ({"returns": 1.0}, {}, {"turns": 1.0})
    )
    assert hidden == 0.0
    assert shown == pytest.approx(wire("all_gather", 2.0 * float(MODEL.parameters), x), rel=0.01)
    # Each of eight devices in turn: the same bytes, in pieces, and eight times the way round.
    assert turns - shown > 7 * wire("all_gather", 8.0, x) > 0.0
    assert float(np.asarray(made(replace(x, zero=0.0)).parts["gradients on the wire"])) == 0.0


def test_broadcasts_in_turn_grow_with_the_devices_and_gathering_hardly_does() -> None:
    def shown(n: int, **recipe: float) -> float:
        how = TrainingFramework("plain", Recipe(**recipe), exposed=0.0)  # type: ignore[arg-type]
        x = Layout(dp=8.0 * n, global_batch=8.0 * n, seq=2048.0, zero=1.0)
        step = train_step(MODEL, system(f"{n}xaws-p4de.24xlarge"), x, how)
        return float(np.asarray(step.parts["gradients on the wire"]))

    once = [shown(n) for n in (8, 16, 32)]
    turns = [shown(n, turns=1.0) for n in (8, 16, 32)]
    # Ways round the ring are as long as there are devices, and there are as many: quadratic, beside bytes that stay.
    growth = np.diff(turns)
    assert growth[1] > 3.0 * growth[0] > 0.0
    assert once[2] < 1.5 * once[0]


@pytest.mark.parametrize("name", frameworks())
def test_every_framework_shares_its_device_with_the_library(name: str) -> None:
    # More than the share that is taken, but no more than as if work stood still beside it.
    assert 1.0 < framework(name).contended < 108.0 / 24.0


def test_a_stream_cut_for_the_way_is_sent_in_parts_and_gathered_there() -> None:
    x = Layout(tp=8.0, pp=4.0, global_batch=64.0, micro_batch=1.0, seq=2048.0)

    def handed(x: Layout, **recipe: float) -> float:
        how = TrainingFramework("plain", Recipe(**recipe))  # type: ignore[arg-type]
        return float(np.asarray(train_step(MODEL, system("4xaws-p4de.24xlarge"), x, how).parts["hand-overs"]))

    whole, cut = handed(x), handed(x, cut=1.0)
    divided = handed(replace(x, sequence_parallel=1.0))
    # Four of the servers' ports are between the eight devices: parts travel in an eighth of the time, and are gathered.
    assert divided < cut < whole
    assert handed(replace(x, sequence_parallel=1.0), cut=1.0) == divided
    assert handed(replace(x, tp=1.0), cut=1.0) == pytest.approx(handed(replace(x, tp=1.0)))


def test_no_factor_makes_a_collective_faster_than_its_ports() -> None:
    x = Layout(tp=8.0, micro_batch=4.0, global_batch=4.0, seq=2048.0)
    fast, faster = (
        train_step(MODEL, a100s(8), x, TrainingFramework("plain", link=f)).parts["link"] for f in (0.1, 0.01)
    )
    # Two all-reduces a layer and pass, each 2 (n - 1) / n of the stream at the 300 GB/s of an A100's links.
    stream = 4.0 * 2048.0 * 2048.0 * 2.0
    assert float(np.asarray(fast)) == pytest.approx(8 * 2 * 2 * (2 * 7 / 8 * stream) / 300e9, rel=0.05)
    assert float(np.asarray(faster)) == float(np.asarray(fast))
