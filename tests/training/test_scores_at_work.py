"""Scores that unfused attention writes take memory while it runs, whether or not a backward pass keeps them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.training.shapes import gpt
from tierwise.machines.load import system
from tierwise.training import Layout, Recipe, TrainingFramework, train_step
from tierwise.training.recipe import method

HIDDEN, HEADS, LAYERS = 512.0, 32.0, 2
MODEL = gpt(LAYERS, HIDDEN, HEADS)
PLAIN = Recipe()
BLIND = method("zeroth", PLAIN)


def peak(seq: float, flash: bool, recipe: Recipe = BLIND, batch: float = 1.0) -> float:
    rows = Layout(micro_batch=batch, global_batch=batch, seq=seq)
    # No logits, so that attention is what needs most.
    how = TrainingFramework("plain", replace(recipe, logits=0.0, noise=0.0))
    return float(train_step(MODEL, system("1xa100-sxm-80gb"), rows, how, flash).memory.peak)


def working(seq: float, flash: bool, recipe: Recipe = BLIND, batch: float = 1.0) -> float:
    rows = Layout(micro_batch=batch, global_batch=batch, seq=seq)
    # Neither logits nor an update's noise, so that what a layer works on is all there is beside its two inputs.
    how = TrainingFramework("plain", replace(recipe, logits=0.0, noise=0.0))
    step = train_step(MODEL, system("1xa100-sxm-80gb"), rows, how, flash)
    return float(step.memory.parts["activations"]) - 2.0 * 2.0 * seq * HIDDEN * batch


@pytest.mark.parametrize("score", [4.0, 8.0])
@pytest.mark.parametrize(("seq", "batch"), [(2048.0, 1.0), (2048.0, 3.0), (4096.0, 1.0)])
def test_scores_are_there_beside_queries_keys_values_and_result(score: float, seq: float, batch: float) -> None:
    """Of each head and pair of tokens a score and its softmax, or what lines of PyTorch make of them."""
    operands = 4.0 * 2.0 * seq * HIDDEN * batch
    found = working(seq, False, replace(BLIND, score=score), batch)
    assert found == pytest.approx(operands + score * batch * HEADS * seq**2)


def test_forward_passes_alone_need_more_memory_by_the_square_of_tokens_where_scores_are_written() -> None:
    extra = [peak(s, False) - peak(s, True) for s in (2048.0, 4096.0, 8192.0)]
    assert extra[0] > 0.0
    # What the largest other op needs grows with tokens alone, so that more than their square is left.
    assert extra[1] > 4.0 * extra[0] and extra[2] > 4.0 * extra[1]
    assert extra[2] == pytest.approx(4.0 * HEADS * 8192.0**2, rel=0.03)


def test_fused_attention_needs_memory_in_proportion_to_tokens() -> None:
    assert working(8192.0, True) == pytest.approx(4.0 * working(2048.0, True))


def test_a_backward_pass_keeps_scores_of_all_layers_and_works_on_those_of_one() -> None:
    """5 a s² b kept by every layer (arXiv:2205.05198, equation 1), gradients of one layer's scores and softmax."""
    s = 4096.0
    pairs = HEADS * s**2
    extra = peak(s, False, PLAIN) - peak(s, True, PLAIN)
    assert extra == pytest.approx((5.0 * LAYERS + 4.0) * pairs, rel=0.03)


@pytest.mark.parametrize("layers", [1, 3])
def test_what_the_feed_forward_kept_is_gone_when_the_backward_pass_comes_to_attention(layers: int) -> None:
    """Of 32 s b h bytes a layer (34 without masks, arXiv:2205.05198, equation 1) the last one's second norm and
    feed-forward had 20: PyTorch's profiler shows so many less at the worst moment."""
    s = 2048.0
    stream, pairs = s * HIDDEN, HEADS * s**2
    rows = Layout(micro_batch=1.0, global_batch=1.0, seq=s)
    how = TrainingFramework("plain", replace(PLAIN, logits=0.0))
    found = train_step(gpt(layers, HIDDEN, HEADS), system("1xa100-sxm-80gb"), rows, how, False).memory
    attention = 4.0 * 2.0 * stream + 4.0 * pairs
    expected = layers * (32.0 * stream + 5.0 * pairs) - 20.0 * stream + attention
    assert float(found.parts["activations"]) == pytest.approx(expected, rel=0.002)
