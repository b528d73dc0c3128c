"""Stages of unlike layers, hand-overs beside work, replicas of experts, what is added to gradients."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tierwise.core.numerics import fmt
from tierwise.machines.load import system
from tierwise.models.load import load_model
from tierwise.program.backward import WEIGHTS, backward
from tierwise.program.program import Body, Program
from tierwise.program.types import Op, Operand
from tierwise.training import Layout, TrainingFramework, TrainStep, train_step
from tierwise.training.layout import pipelines
from tierwise.training.positions import kinds_on_stages
from tierwise.training.recipe import Recipe
from tierwise.training.work import work_of

from .shapes import a100s, gpt

DUAL = pipelines().index("dual_pipe")
DEEPSEEK = load_model("deepseek-v3")  # Three dense layers, then 58 with experts.


def made(model: Any, machine: Any, layout: Layout, **recipe: Any) -> TrainStep:
    return train_step(model, machine, layout, replace(TrainingFramework("plain"), recipe=Recipe(**recipe)))


def test_layers_before_the_others_lie_on_the_first_stage_alone() -> None:
    pattern, counts = (0,) * 3 + (1,) * 13, (3.0, 13.0)
    dense, routed = kinds_on_stages(Layout(pp=4.0, global_batch=8.0), pattern, counts)
    assert (dense.each, routed.each) == (0.0, 1.0)
    # The first stage has three dense layers of its four, and three with experts less.
    assert (dense.first, routed.first, dense.last, routed.last) == (3.0, -3.0, 0.0, 0.0)
    # In two parts a stage has two layers of each half: the first two are dense, the third is the next stage's.
    dense, routed = kinds_on_stages(Layout(pp=4.0, interleave=2.0, global_batch=8.0), pattern, counts)
    assert dense.first + 4.0 * dense.each == 2.0 and routed.first + 4.0 * routed.each == 2.0
    # Without stages, and all over a folded pipeline, the mean.
    for x in (Layout(), Layout(pp=4.0, schedule=float(DUAL), global_batch=16.0)):
        assert [k.each for k in kinds_on_stages(x, pattern, counts)] == [3.0 / 16.0, 13.0 / 16.0]
    assert all(k.first == k.last == 0.0 for k in kinds_on_stages(Layout(), pattern, counts))


def test_what_stages_take_adds_up_to_what_all_layers_take() -> None:
    x = Layout(pp=4.0, dp=8.0, ep=8.0, global_batch=64.0, seq=1024.0, zero=1.0, first=16.0, last=13.0)
    machine = system("32xh200-sxm")
    found = made(DEEPSEEK, machine, x).stages
    first, middle, last = found.passes.totals
    assert float(middle) > float(first)  # Dense layers are cheaper than those with experts.
    work = work_of(DEEPSEEK, machine, x, TrainingFramework("plain"))
    bodies = [*work.layers, *((p, 1.0) for p in work.ends.values())]
    spent = sum(float(n) * float(v) for p, n in bodies for way in (p.forward, p.backward) for v in way.values())
    assert float(first + 2.0 * middle + last) == pytest.approx(spent, rel=1e-6)


def test_an_array_of_layouts_is_placed_as_each_by_itself() -> None:
    pattern, counts = (0,) * 3 + (1,) * 13, (3.0, 13.0)
    pp, parts = np.asarray([1.0, 2.0, 4.0, 4.0]), np.asarray([1.0, 1.0, 1.0, 2.0])
    both = kinds_on_stages(Layout(pp=pp, interleave=parts, global_batch=8.0), pattern, counts)
    for i in range(4):
        alone = kinds_on_stages(Layout(pp=float(pp[i]), interleave=float(parts[i]), global_batch=8.0), pattern, counts)
        for many, one in zip(both, alone, strict=True):
            got = [float(np.broadcast_to(v, 4)[i]) for v in (many.each, many.first, many.last)]
            assert got == pytest.approx([one.each, one.first, one.last])


def test_interleaved_stages_hand_over_beside_their_work_once_the_pipeline_is_full() -> None:
    model, machine = gpt(16, 2048.0, 16.0), a100s(8)

    def waits(**own: float) -> list[float]:
        x = Layout(pp=4.0, dp=2.0, seq=2048.0, **own)
        return [float(made(model, machine, x, passing=p).parts["hand-overs"]) for p in (0.0, 1.0)]

    plain, beside = waits(interleave=4.0, global_batch=256.0)
    assert 0.0 < beside < 0.2 * plain
    # A pipeline that has hardly filled before it empties hides hardly anything, stages of one part nothing.
    short, hidden = waits(interleave=4.0, global_batch=8.0)
    assert short == pytest.approx(hidden, rel=0.1)
    one, same = waits(global_batch=256.0)
    assert one == pytest.approx(same)


def test_replicas_of_an_expert_are_as_far_apart_as_the_experts_are_spread() -> None:
    model, machine = load_model("mixtral-8x7b"), system("16xh100-sxm")

    def wire(ep: float) -> float:
        x = Layout(dp=16.0, ep=ep, global_batch=16.0, seq=2048.0, zero=1.0)
        how = TrainingFramework("plain", exposed=1.0)
        return float(train_step(model, machine, x, how).parts["gradients on the wire"])

    # An eighth of the experts has its other copy on the other node; a sixteenth has none.
    node = wire(8.0) - wire(16.0)
    stack = model.stacks[0]
    held = sum(n * sum(float(w.elements) for w in k.weights() if w.split == "ep") for k, n in stack.runs()) / 8.0
    # Gradients in fp32 and parameters in 16 bits: half of each goes to the other node at the network's rate.
    assert machine.scale_out is not None
    assert node > 0.8 * held * (4.0 + 2.0) / 2.0 / float(np.asarray(machine.scale_out.bandwidth))


def test_maps_from_latents_made_again_keep_latents_alone() -> None:
    x = Layout(pp=4.0, dp=8.0, ep=8.0, global_batch=64.0, seq=1024.0, zero=1.0, first=16.0, last=13.0)
    machine = system("32xh200-sxm")
    plain, again = (made(DEEPSEEK, machine, replace(x, again_up=u)) for u in (0.0, 1.0))
    # Queries of 128 heads of 192, keys of 128 and values of 128 each, in 16 bits; rotated keys are one for all heads.
    each = 1024.0 * 128.0 * (192.0 + 128.0 + 128.0) * 2.0
    layers = float(np.asarray(plain.stages.layers[0]))
    freed = float(plain.memory.kept - again.memory.kept) / layers
    assert freed == pytest.approx(each, rel=0.15)
    assert again.time > plain.time
    assert made(gpt(8, 2048.0, 16.0), a100s(1), Layout(again_up=1.0)).time == made(
        gpt(8, 2048.0, 16.0), a100s(1), Layout()).time  # fmt: skip


def test_products_of_experts_on_several_streams_fill_each_others_last_wave() -> None:
    x = Layout(dp=8.0, ep=8.0, micro_batch=1.0, global_batch=32.0, seq=4096.0, zero=1.0)
    how = [replace(TrainingFramework("plain"), recipe=Recipe(streams=s)) for s in (1.0, 4.0)]
    one, four = (work_of(load_model("qwen3-30b-a3b"), system("8xb200"), x, h).layers[0][0] for h in how)
    assert four.forward["matmul"] < one.forward["matmul"] and four.flops == pytest.approx(one.flops)
    assert four.looped == pytest.approx(one.looped)  # As many kernels are launched.


@pytest.mark.parametrize("added", [0.0, 1.0])
def test_a_gradient_that_is_added_to_is_read_too(added: float) -> None:
    half = fmt("bf16")
    reads = Operand("x", "act", 64.0, half), Operand("w", "weight", 16.0, half)
    out = Operand("y", "act", 16.0, half)
    op = Op("matmul", "up", "mlp", {"m": 8.0, "n": 2.0, "k": 8.0}, 256.0, reads, (out,), "bf16")
    made = backward(Program((Body("layer", (op,)),)), fmt("fp32"), added=added)
    (found,) = [o for s in made.segments for o in s.ops if o.name.endswith(WEIGHTS)]
    assert sum(float(o.bytes) for o in found.writes) == 16.0 * 4.0 * (1.0 + added)


def test_gradients_that_autograd_leaves_are_added_by_a_kernel() -> None:
    model, machine, x = gpt(8, 2048.0, 16.0), a100s(1), Layout(global_batch=8.0, seq=1024.0)
    fused, apart = (made(model, machine, x, apart=a) for a in (0.0, 1.0))
    # Read once in 16 bits, and what they are added to read and written in fp32, for every micro-batch.
    layers = 8.0 * 12.0 * 2048.0**2
    least = 8.0 * layers * (2.0 + 8.0) / machine.device.memory.bandwidth
    assert float(apart.parts["memory"] - fused.parts["memory"]) == pytest.approx(least, rel=0.01)
    assert apart.memory.peak == fused.memory.peak


def test_heads_whose_rows_are_not_aligned_take_vector_units_where_attention_is_not_fused() -> None:
    def attention(heads: float, flash: bool) -> float:
        x = Layout(global_batch=1.0, seq=2048.0)
        step = train_step(gpt(4, 13824.0, heads), a100s(1), x, TrainingFramework("plain"), flash=flash)
        return float(step.parts["attention"])

    assert attention(128.0, False) > 5.0 * attention(96.0, False)  # Heads of 108, and of 144.
    assert attention(128.0, True) < 2.0 * attention(96.0, True)
