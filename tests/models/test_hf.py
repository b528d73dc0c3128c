"""Configurations into models: families found, fields checked, number formats read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tierwise.core.errors import BadField, TierwiseError
from tierwise.core.numerics import fmt
from tierwise.models.hf import find_family, from_config, supported_types
from tierwise.models.hf_modules import Selection
from tierwise.models.load import CATALOG

LLAMA: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 100, "torch_dtype": "bfloat16",
}  # fmt: skip
MOE = {**LLAMA, "model_type": "qwen3_moe", "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32}


def without(field: str) -> dict[str, Any]:
    return {k: v for k, v in LLAMA.items() if k != field}


@pytest.mark.parametrize("field", ["hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size"])
def test_a_missing_field_is_named(field: str) -> None:
    with pytest.raises(BadField, match=rf"here: {field}"):
        from_config(without(field), "here")


@pytest.mark.parametrize("value", [0, -3, "64", 2.5, True, float("nan"), float("inf"), [64], {"a": 1}, 1e300])
@pytest.mark.parametrize("field", ["hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size"])
def test_a_field_that_is_no_size(field: str, value: object) -> None:
    with pytest.raises(BadField, match=field):
        from_config({**LLAMA, field: value}, "here")


def test_a_million_layers_are_refused_quickly() -> None:
    with pytest.raises(BadField, match="layers"):
        from_config({**LLAMA, "num_hidden_layers": 10**9}, "here")


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("deepseek-v3", "num_nextn_predict_layers"), ("minimax-m2", "num_mtp_modules"),
        ("t5-base", "num_decoder_layers"), ("gemma-3-4b", "vision_config.patch_size"),
        ("qwen3.5-27b", "text_config.mtp_num_hidden_layers"), ("kimi-k2.5", "vision_config.merge_kernel_size"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("value", [10**12, [], {"a": 1}, "x"])
def test_counts_in_odd_corners_are_checked(name: str, path: str, value: object) -> None:
    """Fields that once made a list of a million million layers, or divided by zero."""
    data = json.loads((CATALOG / f"{name}.json").read_text())["config"]
    *outer, field = path.split(".")
    section = data
    for part in outer:
        section = section[part]
    section[field] = value
    with pytest.raises(TierwiseError, match=field):
        from_config(data, "here")


def test_heads_must_divide() -> None:
    with pytest.raises(BadField, match="num_key_value_heads"):
        from_config({**LLAMA, "num_key_value_heads": 3}, "here")
    with pytest.raises(BadField, match="num_attention_heads"):
        from_config({**LLAMA, "num_attention_heads": 6, "num_key_value_heads": 6}, "here")


@pytest.mark.parametrize("kind", [None, 3, "", ["llama"]])
def test_a_model_type_that_is_no_name(kind: object) -> None:
    with pytest.raises(TierwiseError):
        from_config({**LLAMA, "model_type": kind}, "here")


def test_an_unknown_type_says_what_was_understood() -> None:
    with pytest.raises(TierwiseError) as error:
        from_config({**without("intermediate_size"), "model_type": "llamma"}, "here")
    text = str(error.value)
    assert "llama" in text and "hidden_size=64" in text and "adding-a-model" in text


def test_every_type_finds_a_family_that_claims_it() -> None:
    types = supported_types()
    assert len(types) == len(set(types)), "two families claim a type"
    for kind in types:
        family = find_family(kind)
        assert family is not None and kind in family.TYPES


@pytest.mark.parametrize("kind", ["..", "os", "_common", "llama.build", "/etc/passwd"])
def test_model_types_are_no_way_to_import(kind: str) -> None:
    assert find_family(kind) is None


def test_dtype_is_read_or_its_absence_noted() -> None:
    assert str(from_config({**LLAMA, "torch_dtype": "float16"}, "x").format_of("attn")) == "fp16"
    silent = from_config(without("torch_dtype"), "x")
    assert str(silent.activations) == "bf16" and any("dtype" in n for n in silent.notes)
    with pytest.raises(BadField, match="torch_dtype"):
        from_config({**LLAMA, "torch_dtype": "float12"}, "x")


def formats(config: dict[str, Any], quant: dict[str, Any], **modelopt: Any) -> dict[str, str]:
    model = from_config({**config, "quantization_config": quant} if quant else config, "x", modelopt or None)
    return {role: str(form) for role, form in model.formats.items()}


def test_block_fp8_leaves_router_norms_and_ends_alone() -> None:
    got = formats(MOE, {"quant_method": "fp8", "weight_block_size": [128, 128]})
    assert got == {"*": "bf16", "attn": "fp8-block", "expert": "fp8-block"}


def test_gptq_and_awq_groups() -> None:
    got = formats(LLAMA, {"quant_method": "gptq", "bits": 4, "group_size": 64})
    assert got == {"*": "bf16", "attn": "int4-g64", "mlp": "int4-g64"}
    got = formats(LLAMA, {"quant_method": "awq", "bits": 4, "group_size": 128, "modules_to_not_convert": ["mlp"]})
    assert got == {"*": "bf16", "attn": "int4-g128"}


def test_compressed_tensors_groups_and_patterns() -> None:
    group = {"targets": ["Linear"], "weights": {"num_bits": 4, "type": "int", "group_size": 32, "symmetric": True}}
    section = {"quant_method": "compressed-tensors", "config_groups": {"group_0": group}}
    got = formats(MOE, {**section, "ignore": ["lm_head", "re:.*self_attn.*"]})
    assert got == {"*": "bf16", "expert": "int4-g32-sym"}


def test_mxfp4_is_for_experts() -> None:
    assert formats(MOE, {"quant_method": "mxfp4"}) == {"*": "bf16", "expert": "mxfp4"}


def test_a_role_of_two_formats_is_averaged_by_parameters() -> None:
    # Two of four layers keep their attention: half of the role's equal layers.
    kept = ["lm_head", "model.layers.0.self_attn*", "model.layers.3.self_attn*"]
    model = from_config(LLAMA, "x", {"quantization": {"quant_algo": "NVFP4", "exclude_modules": kept}})
    form = model.format_of("attn")
    assert set(str(form).split("/")) == {"nvfp4", "bf16"}
    assert form.bytes == pytest.approx((fmt("nvfp4").bytes + fmt("bf16").bytes) / 2)
    assert str(model.format_of("mlp")) == "nvfp4"


def test_mixed_precision_lists_modules_one_by_one() -> None:
    layers = {
        f"model.layers.{i}.mlp.{p}_proj": {"quant_algo": "W4A16_NVFP4"}
        for i in range(4)
        for p in ("gate", "up", "down")
    }
    layers |= {f"model.layers.{i}.self_attn.{p}_proj": {"quant_algo": "FP8"} for i in range(4) for p in "qkvo"}
    section = {"quant_algo": "MIXED_PRECISION", "kv_cache_quant_algo": "FP8", "quantized_layers": layers}
    model = from_config(LLAMA, "x", {"quantization": section})
    assert str(model.format_of("attn")) == "fp8" and str(model.kv_format) == "fp8"
    # Weight-only: four bits in memory, multiplied in the activations' dtype.
    assert model.format_of("mlp").bits == 4 and model.format_of("mlp").arithmetic == ""
    assert str(model.format_of("embed")) == "bf16"


@pytest.mark.parametrize(
    ("quant", "named"),
    [
        ({"quant_method": "magic"}, "quant_method"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP3"}, "quant_algo"),
        ({"quant_algo": "FP8", "kv_cache_scheme": {"num_bits": 3, "type": "float"}}, "kv_cache"),
        ({"quant_method": "fp8", "modules_to_not_convert": "lm_head"}, "modules_to_not_convert"),
        ("fp8", "quantization_config"),
    ],
)
def test_unknown_quantization_is_not_guessed(quant: Any, named: str) -> None:
    with pytest.raises(BadField, match=named):
        from_config({**LLAMA, "quantization_config": quant}, "x")


def test_module_names_of_many_checkpoints() -> None:
    names = [
        "model.layers.1.self_attn.kv_a_proj_with_mqa", "language_model.model.layers.2.block_sparse_moe.experts.7.w1",
        "backbone.layers.3.mixer.in_proj", "model.language_model.layers.4.mlp.shared_expert*", "lm_head",
        "model.layers.5*", "visual.blocks.0.attn.qkv", "*.attn.indexer.*", "mtp.layers.0.self_attn*",
    ]  # fmt: skip
    chosen = Selection(names)
    assert chosen.has(1, "attn", "kv_a_proj") and not chosen.has(1, "attn", "q_b_proj")
    assert chosen.has(2, "expert", "experts") and not chosen.has(1, "expert", "experts")
    assert chosen.has(3, "ssm", "in_proj") and not chosen.has(3, "ssm", "out_proj")
    assert chosen.has(4, "shared_expert", "up_proj") and not chosen.has(4, "expert", "experts")
    assert chosen.has(-1, "head", "head")
    assert chosen.has(5, "mlp", "down_proj") and chosen.has(5, "attn", "o_proj")
    assert chosen.has(-1, "vision", "q_proj")
    assert chosen.has(9, "attn", "index_q") and not chosen.has(9, "attn", "q_a_proj")
    assert not chosen.has(0, "attn", "q_proj"), "a prediction module's layer is not the model's"
