"""What people reported other tools to get wrong, by hand: cached bytes, weights and parameters of known models."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import tierwise as tw
from tierwise.models.hf import from_config


@dataclass(frozen=True)
class Case:
    """A scenario and the KV cache of its fullest device in bytes; ``state`` where a layer keeps one beside it."""

    report: str
    model: str
    machine: str
    prompt: float
    output: float
    cached: float
    batch: float = 1.0
    plan: dict[str, Any] = field(default_factory=dict)
    state: float = 0.0


CASES = [
    Case("alvarobartt/hf-mem#60", "gpt-oss-120b", "h100-sxm", 100, 29, 36 * 2 * 8 * 64 * 2 * 128),
    Case("LMCache/LMCache#688", "qwen3-0.6b", "rtx-4090", 1000, 1, 28 * 2 * 8 * 128 * 2 * 1000),
    Case("LMCache/LMCache#2248", "glm-4.5", "8xh200-sxm", 1000, 1, 92 * 2 * 8 * 128 * 2 * 1000),
    Case("PrimeIntellect-ai/prime-rl#2827", "kimi-k2.5", "16xh200-sxm", 130816, 256, 61 * 576 * 2 * 131071, batch=16,
         plan={"dp": 16, "ep": 16}),
    Case("NVIDIA/TensorRT-LLM#19514", "whisper-large-v3", "rtx-4090", 1, 447, 32 * 1280 * 2 * 2 * (1500 + 447)),
    Case("lmstudio-bug-tracker#1862", "qwen3.5-27b", "h200-sxm", 262000, 145, 16384 * (1 << 20),
         state=48 * (48 * 128 * 128 * 4 + (2 * 16 * 128 + 48 * 128) * 3 * 2)),
    Case("microsoft/vidur#18", "llama-3.1-8b", "4xh100-sxm", 4000, 97, 16 * 4096 * 131072 / 4, batch=16,
         plan={"pp": 4}),
    Case("vllm-project/vllm#51454", "deepseek-v3", "8xh200-sxm", 30000, 2, 8 * 61 * 576 * 2 * 30001, batch=8,
         plan={"tp": 8, "ep": 8}),
    Case("vllm-project/vllm#17569", "deepseek-v3", "8xh200-sxm", 30000, 2, 61 * 576 * 2 * 30001, batch=8,
         plan={"dp": 8, "ep": 8}),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.report)
def test_what_requests_cache(case: Case) -> None:
    traffic = tw.Batch(prompt=case.prompt, output=case.output, batch=case.batch)
    parts = tw.evaluate(tw.Scenario(case.model, case.machine, traffic, plan=tw.Plan(**case.plan))).memory.parts
    assert float(parts["KV cache"]) == pytest.approx(case.cached, rel=1e-5)
    assert float(parts.get("recurrent state", 0.0)) == pytest.approx(case.state, rel=1e-5)


def test_grouped_queries_read_the_cache_once() -> None:
    """hahnyuan/LLM-Viewer#12: a decode step reads the heads that are cached, not one for each query head."""
    result = tw.evaluate(tw.Scenario("llama-3.1-8b", "h100-sxm", tw.Batch(prompt=2048, output=2, batch=1)))
    decode = next(p for p in result.phases if p.name == "decode")
    assert float(np.sum(decode.program.bytes_of("kv"))) == pytest.approx(32 * 2 * 8 * 128 * 2 * 2049, rel=2e-3)


def test_layers_without_attention_cache_nothing_on_any_stage() -> None:
    """ollama#9984: of 8 layers, 5 attend, 4 of them on the first of two stages, which is then the fullest."""
    attends = [True, True, True, True, False, False, True, False]
    blocks = [{"attention": {"n_heads_in_group": 8} if a else {"no_op": True}, "ffn": {"ffn_mult": 2.0}}
              for a in attends]  # fmt: skip
    config = {"model_type": "nemotron-nas", "hidden_size": 1024, "num_hidden_layers": 8, "num_attention_heads": 16,
              "vocab_size": 1024, "torch_dtype": "bfloat16", "block_configs": blocks}  # fmt: skip
    model, traffic = from_config(config, "x"), tw.Batch(prompt=1000, output=1, batch=1)

    def cached(stages: int) -> float:
        made = tw.evaluate(tw.Scenario(model, "2xh100-sxm", traffic, plan=tw.Plan(pp=stages, dp=2 // stages)))
        return float(made.memory.parts["KV cache"])

    layer = 2 * (16 // 8) * 64 * 2 * 1000
    assert cached(1) == 5 * layer
    assert cached(2) == 4 * layer


def test_fields_left_to_their_class() -> None:
    """ddalcu/mlx-serve#46: gemma-3-4b says no head counts; its class does (8, 4 and 256)."""
    text = {"model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34,
            "sliding_window": 1024}  # fmt: skip
    vision = {"model_type": "siglip_vision_model", "hidden_size": 1152, "image_size": 896, "intermediate_size": 4304,
              "num_attention_heads": 16, "num_hidden_layers": 27, "patch_size": 14,
              "vision_use_head": False}  # fmt: skip
    config = {"model_type": "gemma3", "text_config": text, "vision_config": vision, "torch_dtype": "bfloat16"}
    assert from_config(config, "x").parameters == 4_300_079_472


def test_quantization_reaches_a_nested_text_model() -> None:
    """inference-sim#827: Llama-4 Scout in 8 bits but for attention, router and head, which expressions leave alone."""
    text = {"model_type": "llama4_text", "hidden_size": 5120, "intermediate_size": 8192, "intermediate_size_mlp": 16384,
            "head_dim": 128, "num_attention_heads": 40, "num_key_value_heads": 8, "num_hidden_layers": 48,
            "num_local_experts": 16, "num_experts_per_tok": 1, "interleave_moe_layer_step": 1, "vocab_size": 202048,
            "use_qk_norm": True}  # fmt: skip
    group = {"targets": ["Linear"], "weights": {"num_bits": 8, "type": "float", "strategy": "channel"}}
    section = {"quant_method": "compressed-tensors", "config_groups": {"group_0": group},
               "ignore": ["language_model.lm_head", "re:.*self_attn.*", "re:.*router.*"]}  # fmt: skip
    model = from_config({"model_type": "llama4", "text_config": text, "torch_dtype": "bfloat16",
                         "quantization_config": section}, "x")  # fmt: skip
    experts = 48 * 17 * 3 * 5120 * 8192
    parts = tw.evaluate(tw.Scenario(model, "2xh100-sxm", plan=tw.Plan(tp=2))).memory.parts
    held = sum(float(v) for k, v in parts.items() if k.startswith("weights"))
    assert held == pytest.approx((experts + 2 * (model.parameters - experts)) / 2, rel=1e-3)
    assert model.parameters == pytest.approx(107.77e9, rel=1e-3)
