"""What a framework's kernels and a device family's rates change of a step, one at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.training.shapes import a100s, gpt
from tierwise.machines.load import system
from tierwise.machines.types import System
from tierwise.measure.training import measured, table
from tierwise.models.load import load_model
from tierwise.training import Layout, TrainingFramework, train_step
from tierwise.training.recipe import Recipe, sustained
from tierwise.training.work import work_of

MODEL = gpt(8, 4096.0, 32.0)
PLAIN = TrainingFramework("plain")


def part(name: str, recipe: Recipe, layout: Layout, machine: System, model: Any = MODEL) -> float:
    return float(train_step(model, machine, layout, replace(PLAIN, recipe=recipe)).parts[name])


def test_gradients_of_unfused_attention_read_and_write_seven_scores_where_the_forward_pass_does_four() -> None:
    layout = Layout(micro_batch=4.0, global_batch=4.0)
    unfused, fused = (work_of(MODEL, a100s(1), layout, PLAIN, flash=f).layers[0][0] for f in (False, True))
    assert unfused.backward["attention"] == pytest.approx(7.0 / 4.0 * unfused.forward["attention"])
    assert fused.backward["attention"] == pytest.approx(5.0 / 2.0 * fused.forward["attention"])


def test_dropout_of_scores_is_a_kernel_of_unfused_attention_alone() -> None:
    layout, drops = Layout(micro_batch=4.0, global_batch=4.0), replace(PLAIN, recipe=Recipe(dropout=1.0))
    for flash, more in ((False, 1.0 + 2.5 / 4.0), (True, 1.0)):
        without, with_ = (work_of(MODEL, a100s(1), layout, h, flash).layers[0][0].forward for h in (PLAIN, drops))
        assert with_["attention"] == pytest.approx(more * without["attention"])


def test_attention_of_before_hopper_is_slower_on_it_and_nowhere_else() -> None:
    layout, old = Layout(global_batch=1.0, seq=16384.0), Recipe(older_attention=1.0)
    # FlashAttention-3 reaches 75 % of the peak where its predecessor reaches 35 %.
    assert 1.5 <= 1.0 / sustained("hopper").older <= 0.75 / 0.349
    for name, slower in (("1xh100-sxm", 1.0 / sustained("hopper").older), ("1xa100-sxm-80gb", 1.0)):
        new, older = (part("attention", r, layout, system(name)) for r in (Recipe(), old))
        assert older == pytest.approx(slower * new)


def test_a_loss_of_more_kernels_takes_the_time_of_their_bytes() -> None:
    layout = Layout(micro_batch=4.0, global_batch=4.0)
    one, many = (part("ends", Recipe(loss=bytes_), layout, a100s(1)) for bytes_ in ((6.0, 8.0), (38.0, 14.0)))
    logits, memory = 4.0 * 2048.0 * 51200.0, a100s(1).device.memory.bandwidth
    assert many - one == pytest.approx(38.0 * logits / memory, rel=0.3)


def test_collectives_beside_gradients_of_weights_are_waited_for_in_part_along_a_divided_sequence() -> None:
    whole = Layout(tp=8.0, micro_batch=4.0, global_batch=4.0)
    wide = gpt(2, 12288.0, 96.0)
    alone, beside = (part("link", Recipe(beside=b), whole, a100s(), wide) for b in (0.0, 1.0))
    assert beside == pytest.approx(alone / 2.0)  # the forward pass's are left
    parted = replace(whole, sequence_parallel=1.0)
    assert part("link", Recipe(beside=1.0), parted, a100s(), wide) == pytest.approx(0.75 * alone)
    # Little work hides little.
    tiny = replace(whole, micro_batch=1.0, global_batch=1.0, seq=64.0)
    waited, hidden = (part("link", Recipe(beside=b), tiny, a100s(), gpt(8, 512.0, 8.0)) for b in (0.0, 1.0))
    assert waited / 2.0 < hidden < waited


def test_recomputing_stops_before_the_product_that_ends_a_layer() -> None:
    layout = Layout(micro_batch=4.0, global_batch=4.0, recompute=2.0)
    all_, some = (part("matmul", Recipe(stops=s), layout, a100s(1)) for s in (0.0, 1.0))
    # Of twelve h² in a layer's products the last has four; a recomputed step has four passes.
    assert 1.0 - some / all_ == pytest.approx(4.0 / 12.0 / 4.0, rel=0.05)


def test_what_surrounds_the_update_and_what_adds_gradients_up_move_bytes_of_their_own() -> None:
    layout, machine = Layout(micro_batch=1.0, global_batch=4.0), a100s(1)
    least, more = (part("update", Recipe(around=a), layout, machine) for a in (0.0, 28.0))
    assert more / least == pytest.approx((30.0 + 28.0) / 30.0)
    without, with_ = (part("memory", Recipe(also=a), layout, machine) for a in (0.0, 2.0))
    layers = 12.0 * 8.0 * 4096.0**2
    assert with_ - without == pytest.approx(4.0 * 10.0 * layers / machine.device.memory.bandwidth, rel=0.01)


def test_tokens_go_once_to_each_node_by_kernels_that_know_of_nodes() -> None:
    model, machine = load_model("qwen3-30b-a3b"), system("16xh100-sxm")
    layout = Layout(dp=16.0, ep=16.0, global_batch=16.0, seq=4096.0)
    copies, once = (part("sent", Recipe(dispatch=d), layout, machine, model) for d in (0.0, 1.0))
    assert once < 0.5 * copies  # two nodes, eight experts a token: one copy crosses in place of four
    inside = replace(layout, ep=8.0)
    one, other = (part("sent", Recipe(dispatch=d), inside, machine, model) for d in (0.0, 1.0))
    assert one == other
    # Of several layouts each has its own.
    both = train_step(model, machine, replace(layout, ep=np.array([8.0, 16.0])),
                      replace(PLAIN, recipe=Recipe(dispatch=1.0))).parts["sent"]  # fmt: skip
    assert both == pytest.approx([other, once])


def test_fewer_bits_are_no_faster_than_the_datasheet_has_them_over_what_sixteen_sustain() -> None:
    layout = Layout(micro_batch=4.0, global_batch=4.0)
    for machine, form, most in (("1xh100-sxm", "fp8", 2.0), ("1xb200-sxm", "nvfp4", 4.0)):
        wide, less = (part("matmul", Recipe(precision=p), layout, system(machine)) for p in ("bf16", form))
        assert 1.0 < wide / less <= most * 1.001
    assert sustained("no such family").matmul == 1.0


def test_a_batch_that_nobody_stated_tells_of_memory_and_not_of_time() -> None:
    row = {"framework": "LitGPT finetune_lora", "model": "some", "family": "llama", "gpu": "a100_sxm_40",
           "hidden": 4096.0,
           "layers": 32.0, "heads": 32.0, "ffn": 11008.0, "vocab": 32000.0, "seq": 1304.0, "mbs": 1.0, "tp": 1.0,
           "pp": 1.0, "dp": 1.0, "iter_s": 0.5, "status": "ok", "precision": "bf16-true",
           "flags": "finetune_lora; trainable=4194304"}  # fmt: skip
    plain, four = table([row]), table([{**row, "precision": "bf16-true+bnb.nf4"}])
    assert not plain.refused and np.isnan(measured(plain)).all()
    sizes = [float(np.ravel(t.groups[0].step().memory.parts["parameters"])[0]) for t in (plain, four)]
    layers = 32.0 * (4.0 * 4096.0**2 + 3.0 * 4096.0 * 11008.0)
    assert sizes[0] - sizes[1] == pytest.approx((2.0 - 0.5625) * layers, rel=0.02)
    states = float(np.ravel(plain.groups[0].step().memory.parts["optimizer states"])[0])
    assert states == pytest.approx(4194304 * 12.0, rel=0.02)
    assert table([{**row, "flags": "finetune_lora"}]).refused
