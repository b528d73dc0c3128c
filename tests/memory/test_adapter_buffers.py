"""Buffers for LoRA adapters of experts, the head and the table, as vLLM shapes them (``FusedMoEWithLoRA``,
``LogitsProcessorWithLoRA``, ``VocabParallelEmbeddingWithLoRA``), and the work of those of experts."""

from __future__ import annotations

import pytest

import tierwise as tw
from tierwise.memory.weights import ADAPTERS, stage_weights, weight_bytes
from tierwise.models.load import load_model
from tierwise.models.lora import one_adapter
from tierwise.models.lower import lower
from tierwise.models.step import Step

# Qwen3-30B-A3B: 48 layers of 128 experts, 2048 to 768 and back.
LAYERS, EXPERTS, HIDDEN, INNER, WORDS = 48, 128, 2048, 768, 151_936


def buffers(modules: str, rank: float = 16.0, **degrees: float) -> float:
    plan = tw.Plan(adapters=2.0, lora_rank=rank, lora_modules=modules, **degrees)  # type: ignore[arg-type]
    return float(weight_bytes(load_model("qwen3-30b-a3b"), plan).get(ADAPTERS, 0.0))


@pytest.mark.parametrize(("tp", "ep"), [(1, 1), (4, 1), (4, 4), (4, 2)])
def test_buffers_for_adapters_of_experts(tp: int, ep: int) -> None:
    """Of each expert here, gate, up and down: a thin matrix of the hidden width and one of this device's inner one."""
    each = 3 * (HIDDEN + INNER / (tp / ep))
    expected = 2 * 16 * 2 * LAYERS * EXPERTS / ep * each
    assert buffers("experts", tp=float(tp), ep=float(ep)) == pytest.approx(expected)


def test_all_is_every_map_of_the_layers() -> None:
    assert buffers("all") == pytest.approx(buffers("attention") + buffers("experts"))
    assert buffers("mlp") == buffers("experts")
    assert buffers("all", rank=64.0) == pytest.approx(4 * buffers("all"))


def test_biases_of_experts_are_no_further_maps() -> None:
    """gpt-oss: 36 layers of 128 experts of 2880 by 2880, gate, up and down, each with a bias."""
    model, plan = load_model("gpt-oss-120b"), tw.Plan(adapters=1.0, lora_rank=8.0, lora_modules="experts")
    assert float(one_adapter(model, plan)) == pytest.approx(36 * 128 * 8 * 3 * (2880 + 2880) * 2)


@pytest.mark.parametrize("tp", [1.0, 4.0])
def test_head_and_table_where_named_on_the_stages_that_have_them(tp: float) -> None:
    """Logits are gathered before adapters are added, so each device has both thin matrices whole."""
    both = 2 * 16 * 2 * (HIDDEN + WORDS)
    assert buffers("lm_head", tp=tp) == buffers("embed_tokens", tp=tp) == pytest.approx(both)
    assert buffers("q_proj+lm_head", tp=tp) == pytest.approx(buffers("q_proj", tp=tp) + both)
    plan = tw.Plan(adapters=2.0, lora_modules="lm_head", pp=4.0)
    assert stage_weights(load_model("qwen3-30b-a3b"), plan)[ADAPTERS] == [0.0, 0.0, 0.0, pytest.approx(both)]


def test_work_of_adapters_of_experts() -> None:
    """Of each token, in eight experts: twice the parameters of the thin matrices it passes."""
    plan = tw.Plan(adapters=2.0, lora_rank=16.0, lora_modules="experts")
    program = lower(Step(load_model("qwen3-30b-a3b"), plan, 1.0, 100.0, 0.0, "prefill"))
    found = sum(float(s.repeat * op.flops) for s, op in program.walk() if op.name.startswith("lora."))
    assert found == pytest.approx(2 * 100 * 8 * LAYERS * 16 * 3 * (HIDDEN + INNER))
