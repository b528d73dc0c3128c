"""Memory where frameworks keep more than a step needs, beside what LitGPT recorded; tables that both ends share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.training.shapes import a100s, gpt
from tierwise.measure.training import table
from tierwise.training import Layout, TrainingFramework, train_step

# LitGPT's finetune_lora at 8641822, A100 40GB (its tutorials/resource-tables.md): bytes at the peak.
LLAMA_7B = {"hidden": 4096.0, "layers": 32.0, "heads": 32.0, "ffn": 11008.0, "vocab": 32000.0, "family": "llama"}
RUN = {
    "framework": "LitGPT@8641822 finetune_lora", "model": "Llama 2 7 B", "gpu": "a100_sxm_40", "tp": 1.0, "pp": 1.0,
    "seq": 1304.0, "precision": "bf16-true", "params_b": 6.7, "gpus_per_node": 8.0,
    "flags": "finetune_lora; trainable=4194304; minibatch 128",
}  # fmt: skip


def peak(**changes: Any) -> float:
    (group,) = table([{**RUN, **LLAMA_7B, **changes}]).groups
    return float(group.peak(np.asarray(["fullest"]))[0])


@pytest.mark.parametrize(
    ("gpus", "micro", "measured"), [(1, 1, 21.3e9), (1, 2, 29.1e9), (2, 1, 22.2e9), (2, 2, 22.5e9), (2, 4, 23.4e9)]
)
def test_litgpts_adapters_take_what_it_recorded(gpus: int, micro: int, measured: float) -> None:
    zero = 3.0 if gpus > 1 else 0.0
    assert peak(n_gpus=gpus, dp=float(gpus), mbs=float(micro), zero_stage=zero) == pytest.approx(measured, rel=0.06)


def test_gradients_of_a_mixed_unit_are_whole_while_micro_batches_add_up() -> None:
    several = peak(n_gpus=2, dp=2.0, mbs=1.0, zero_stage=3.0)
    once = peak(n_gpus=2, dp=2.0, mbs=1.0, zero_stage=3.0, gbs=2.0)
    # All weights' gradients in 16 bits, on two devices or on each.
    assert several - once == pytest.approx(2.0 * 6.74e9 / 2.0, rel=0.02)


PLAIN = TrainingFramework("plain")


def test_a_shared_table_is_averaged_and_updated_once() -> None:
    layout = Layout(dp=8.0, global_batch=8.0, seq=512.0)
    tied, own = (train_step(gpt(2, 1024.0, 16.0, tied=t), a100s(8), layout, PLAIN) for t in (True, False))
    # An untied head is a table more: 51200 x 1024 weights, each of whose states is read and written.
    each = PLAIN.recipe.update * PLAIN.memory / a100s(8).device.memory.bandwidth
    assert float(own.parts["update"] - tied.parts["update"]) == pytest.approx(51200 * 1024 * each, rel=1e-3)
    assert float(own.parts["gradients on the wire"]) > float(tied.parts["gradients on the wire"])


def test_stages_that_hold_one_end_each_hold_a_table_each() -> None:
    layout = Layout(dp=4.0, pp=2.0, global_batch=8.0, seq=512.0)
    tied, own = (train_step(gpt(2, 1024.0, 16.0, tied=t), a100s(8), layout, PLAIN) for t in (True, False))
    assert float(own.parts["update"]) == pytest.approx(float(tied.parts["update"]))


def test_megatrons_own_attention_keeps_its_scores() -> None:
    row = {**RUN, "framework": "Megatron-LM CI", "gpu": "a100_sxm_80", "precision": "fp16", "family": "gpt",
           "hidden": 512.0, "layers": 12.0, "heads": 8.0, "ffn": None, "vocab": None, "seq": 1024.0, "dp": 8.0,
           "n_gpus": 8.0, "mbs": 4.0, "gbs": 32.0, "zero_stage": 1.0, "tied": 1.0, "params_b": None,
           "recompute": "none", "model": "gpt"}  # fmt: skip
    local, fused = (
        float(table([{**row, "flags": flags}]).groups[0].peak(np.asarray(["last"]))[0])
        for flags in ("transformer-impl=local", "transformer-impl=local; use-flash-attn")
    )
    # Two bytes of scores and of their softmax each, and a mask, in every layer.
    assert local - fused >= 12 * 4 * 8 * 1024**2 * 4.0
    # Its golden values have 4.61 GB (gpt3_mcore_tp1_pp1_resume_torch_dist_dist_optimizer).
    assert local == pytest.approx(4.61e9, rel=0.08)
