"""What a layer of `transformers` keeps for its backward pass, as autograd was asked, beside the account of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.training.shapes import a100s
from tierwise.models.blocks.attention import Attention
from tierwise.models.blocks.ends import Embedding, Head
from tierwise.models.blocks.mlp import MLP
from tierwise.models.family import pre_norm, stack
from tierwise.models.types import Model
from tierwise.training import Layout, TrainingFramework, train_step

PLAIN = TrainingFramework("plain")
LINES = replace(PLAIN, recipe=replace(PLAIN.recipe, lines=1.0))
WIDTH, INNER, VOCAB = 256.0, 688.0, 512.0
SHAPE = Layout(micro_batch=2.0, global_batch=2.0, seq=128.0)
# Bytes that one more layer of a LlamaModel of this shape keeps in bf16 (transformers 5.24, attention "sdpa"): storages
# that torch.autograd.graph.saved_tensors_hooks saw, each once, parameters left out; two layers less one.
AUTOGRAD = 2_988_032.0


def llama(depth: int, gated: bool = True) -> Model:
    layer = pre_norm("layer", WIDTH, Attention(WIDTH, 4.0, 4.0, 64.0), MLP(WIDTH, INNER, gated))
    ends = {"before": (Embedding(VOCAB, WIDTH),), "after": (Head(WIDTH, VOCAB),)}
    return Model("llama", "llama", WIDTH, VOCAB, (stack("decoder", [layer] * depth, **ends),))


def kept(how: TrainingFramework, gated: bool = True, **layout: float) -> float:
    one, two = (train_step(llama(n, gated), a100s(1), replace(SHAPE, **layout), how).memory for n in (1, 2))
    return float(two.parts["activations"] - one.parts["activations"])


def test_a_layer_of_lines_keeps_what_autograd_kept() -> None:
    assert kept(LINES) == pytest.approx(AUTOGRAD, rel=0.005)
    # One kernel for each norm and activation keeps less: two copies in fp32 and the activated gate are not there.
    unit = 2.0 * 128.0 * WIDTH * 2.0
    assert kept(LINES) - kept(PLAIN) == pytest.approx(2 * 2 * unit + unit * INNER / WIDTH)


def test_without_a_gate_only_norms_keep_more() -> None:
    assert kept(LINES, gated=False) - kept(PLAIN, gated=False) == pytest.approx(2 * 2 * 2.0 * 128.0 * WIDTH * 2.0)


def test_norms_that_work_in_16_bits_keep_no_copies_in_fp32() -> None:
    """Lines of a norm without casts: autograd keeps the stream and what was normalised, four bytes an element for six
    (saved_tensors_hooks, PyTorch 2.13)."""
    thin = replace(LINES, recipe=replace(LINES.recipe, casts=0.0))
    elements = 2.0 * 128.0 * WIDTH
    assert kept(LINES) - kept(thin) == pytest.approx(2.0 * 2.0 * elements)
    assert kept(thin, gated=False) - kept(PLAIN, gated=False) == pytest.approx(2.0 * 2.0 * elements)


def test_recomputed_layers_keep_it_only_while_they_run() -> None:
    assert kept(LINES, recompute=2.0) == pytest.approx(kept(PLAIN, recompute=2.0))
    again = replace(SHAPE, recompute=2.0)
    plain, lines = (float(train_step(llama(2), a100s(1), again, how).memory.peak) for how in (PLAIN, LINES))
    assert lines > plain
