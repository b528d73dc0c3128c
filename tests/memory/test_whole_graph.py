"""Engines that reserve their largest graph: micro-batch, whole context and logits decide, as ggml lays them out."""

from __future__ import annotations

import pytest

from tierwise import Batch, Scenario, evaluate
from tierwise.memory.activations import ggml_activations, live_activations
from tierwise.models.load import load_model
from tierwise.models.lower import lower
from tierwise.models.step import Step
from tierwise.scenario.types import Plan


def activations(prompt: float, chunk: float = 512.0, flash: bool = True) -> float:
    plan = Plan(chunk=chunk, flash=flash)
    s = Scenario("llama-3.1-8b", "rtx-4090", Batch(prompt, 8.0, 1.0), plan, engine="llama.cpp")
    return float(evaluate(s).memory.activations)


def test_logits_of_every_token_of_a_micro_batch() -> None:
    assert activations(504.0) == pytest.approx(512 * (128256 + 4096) * 4)
    assert activations(4000.0, 2048.0) == pytest.approx(4 * activations(504.0))


def test_scores_at_the_whole_context_where_attention_is_not_fused() -> None:
    short, long = activations(4088.0, flash=False), activations(8184.0, flash=False)
    assert long - short == pytest.approx(32 * 512 * 4096 * 4, rel=0.05)
    assert activations(8184.0) == activations(4088.0)


def test_the_feed_forward_part_needs_its_input_the_stream_and_both_halves() -> None:
    model = load_model("llama-2-70b")
    program = lower(Step(model, Plan(), 1.0, 512.0, 0.0, "prefill"))
    stream_input_gate_up = 512 * 4 * (2 * 8192 + 2 * 28672)
    assert ggml_activations(program) == pytest.approx(stream_input_gate_up, rel=0.01)
    assert live_activations(program) < ggml_activations(program)
