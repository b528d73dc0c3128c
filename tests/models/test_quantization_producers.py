"""Quantization sections as their producers write them, against bytes counted by hand from the fields' meaning."""

from __future__ import annotations

from typing import Any

import pytest

from tierwise.core.errors import TierwiseError
from tierwise.models.hf import from_config
from tierwise.models.types import Model

LAYERS, HIDDEN, INNER, VOCAB = 32, 4096, 14336, 128256
LLAMA = {"model_type": "llama", "hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "num_attention_heads": 32,
         "num_key_value_heads": 8, "intermediate_size": INNER, "vocab_size": VOCAB,
         "torch_dtype": "bfloat16"}  # fmt: skip
ATTN, MLP = LAYERS * (2 * HIDDEN**2 + 2 * HIDDEN * 1024), LAYERS * 3 * HIDDEN * INNER
LINEAR, END = ATTN + MLP, HIDDEN * VOCAB  # the embedding and the head have one END each
PARTS = ("gate_proj", "up_proj", "down_proj")
FLOAT8 = {"weight": {"dtype": "fp8_e4m3", "qscheme": "per_tensor"}}
FLOAT4 = {"weight": {"dtype": "fp4", "qscheme": "per_group", "group_size": 32, "scale_format": "e8m0"}}
AO4 = {"_type": "Int4WeightOnlyConfig", "_data": {"group_size": 64}}

# (name, section, bits of the weights in all)
CASES: list[tuple[str, dict[str, Any], float]] = [
    ("quark fp8", {"quant_method": "quark", "global_quant_config": FLOAT8, "exclude": ["lm_head"]},
     LINEAR * 8 + 2 * END * 16),
    ("quark fp4, attention left alone",
     {"quant_method": "quark", "global_quant_config": FLOAT4, "exclude": ["lm_head", "re:.*self_attn.*"]},
     MLP * 4.25 + (ATTN + 2 * END) * 16),
    ("quark fp4, attention in fp8",
     {"quant_method": "quark", "global_quant_config": FLOAT4, "layer_quant_config": {"*self_attn*": FLOAT8}},
     MLP * 4.25 + ATTN * 8 + 2 * END * 16),
    ("torchao by name", {"quant_method": "torchao", "quant_type": "int8_weight_only"}, LINEAR * 8 + 2 * END * 16),
    ("torchao by class", {"quant_method": "torchao", "quant_type": {"default": AO4}}, LINEAR * 4.5 + 2 * END * 16),
    ("torchao by module", {"quant_method": "torchao", "quant_type": {"default": {
        "_type": "ModuleFqnToConfig", "_data": {"module_fqn_to_config": {
            "_default": AO4, "re:.*self_attn.*": {"_type": "Int8WeightOnlyConfig", "_data": {}}}}}}},
     MLP * 4.5 + ATTN * 8 + 2 * END * 16),
    ("hqq", {"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 4, "group_size": 64, "axis": 1}},
             "skip_modules": ["lm_head"]}, LINEAR * 4.5 + 2 * END * 16),
    ("modelopt nested", {"quant_method": "modelopt", "producer": {"name": "modelopt"}, "quantization": {
        "quant_algo": "FP8", "kv_cache_quant_algo": "FP8", "exclude_modules": ["lm_head"]}},
     LINEAR * 8 + 2 * END * 16),
    ("modelopt mixed", {"quant_method": "modelopt_mixed", "quant_algo": "MIXED_PRECISION", "quantized_layers": {
        f"model.layers.{i}.mlp.{p}": {"quant_algo": "NVFP4", "group_size": 16} for i in range(LAYERS) for p in PARTS}},
     MLP * 4.5 + (ATTN + 2 * END) * 16),
    ("exl3", {"quant_method": "exl3", "bits": 3.5, "head_bits": 6}, LINEAR * 3.5 + END * 6 + END * 16),
    ("eetq", {"quant_method": "eetq", "weights": "int8"}, LINEAR * 8 + 2 * END * 16),
    ("aqlm, two bits", {"quant_method": "aqlm", "in_group_size": 8, "out_group_size": 1, "num_codebooks": 1,
                        "nbits_per_codebook": 16}, LINEAR * 2 + 2 * END * 16),
    ("fbgemm, parts of a layer left alone",
     {"quant_method": "fbgemm_fp8", "activation_scale_ub": 1200.0,
      "modules_to_not_convert": ["lm_head", "model.layers.0.mlp.down_proj"]},
     (LINEAR - HIDDEN * INNER) * 8 + (HIDDEN * INNER + 2 * END) * 16),
    ("gptqmodel's own widths and gaps", {"quant_method": "gptq", "bits": 4, "group_size": 128, "dynamic": {
        "-:.*self_attn.*": {}, "+:.*\\.(?:0|1)\\..*mlp.*": {"bits": 8, "group_size": 64}}},
     MLP * (30 * 4.15625 + 2 * 8.375) / 32 + (ATTN + 2 * END) * 16),
    ("two groups of one file", {"quant_method": "compressed-tensors", "format": "mixed-precision", "config_groups": {
        "a": {"targets": ["re:.*self_attn.*"], "weights": {"num_bits": 8, "type": "float", "strategy": "channel"}},
        "b": {"targets": ["re:.*(gate_proj|up_proj)$"],
              "weights": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128}}}},
     ATTN * 8 + MLP * (2 / 3 * 4.125 + 16 / 3) + 2 * END * 16),
    ("nvfp4 on load", {"quant_method": "nvfp4", "modules_to_not_convert": ["lm_head"]}, LINEAR * 4.5 + 2 * END * 16),
    ("fp-quant", {"quant_method": "fp_quant", "forward_dtype": "mxfp4", "forward_method": "quest",
                  "hadamard_group_size": 32}, LINEAR * 4.25 + 2 * END * 16),
    ("fp-quant beside the weights it trains", {"quant_method": "fp_quant", "store_master_weights": True},
     LINEAR * 20.5 + 2 * END * 16),
    ("fp-quant that only rounds", {"quant_method": "fp_quant", "pseudoquantization": True}, (LINEAR + 2 * END) * 16),
    ("four over six", {"quant_method": "fouroversix", "scale_rule": "mse", "matmul_backend": "cutlass"},
     LINEAR * 4.5 + 2 * END * 16),
    ("metal: a 16-bit scale and bias a group", {"quant_method": "metal", "bits": 8, "group_size": 64},
     LINEAR * 8.5 + 2 * END * 16),
    ("sinq", {"quant_method": "sinq", "nbits": 4, "group_size": 64, "tiling_mode": "1D", "method": "sinq"},
     LINEAR * 4.5 + 2 * END * 16),
    ("gemma's rows, some narrower, tables too",
     {"quant_method": "gemma", "num_bits": 4, "quantize_embeddings": True, "modules_to_not_convert": [],
      "module_quant_configs": {"down_proj": {"num_bits": 2}, "embed_tokens": {"num_bits": 8}}},
     ATTN * 4 + MLP * (2 * 4 + 2) / 3 + END * (8 + 4)),
    ("vptq: an index of 16 bits for 8 weights, one of 8 bits for what is left, two tables a module",
     {"quant_method": "vptq", "config_for_layers": {f"model.layers.{i}.mlp.{p}": {
         "in_features": HIDDEN, "out_features": INNER, "group_num": 1, "num_centroids": [-1, 65536],
         "num_res_centroids": [-1, 256], "vector_lens": [-1, 8]} for i in range(LAYERS) for p in PARTS}},
     MLP * 3 + 3 * LAYERS * (65536 + 256) * 8 * 16 + (ATTN + 2 * END) * 16),
    ("fp8 with a scale of 8 bits for 32 weights", {"quant_method": "fp8", "weight_block_size": [1, 32]},
     LINEAR * 8.25 + 2 * END * 16),
    ("fp8 in narrow blocks, tables too", {"quant_method": "fp8", "weight_block_size": [1, 128],
                                          "modules_to_convert": ["embed_tokens"]},
     (LINEAR + END) * 8.25 + END * 16),
]  # fmt: skip


def stored_bits(model: Model) -> float:
    """Bits of all weights at their roles' formats."""
    blocks = [(b, 1.0) for s in model.stacks for b in (*s.before, *s.after)]
    blocks += [(b, float(n)) for s in model.stacks for kind, n in s.runs() for b in kind.blocks]
    return sum(n * float(w.elements) * float(model.format_of(w.role).bytes) * 8 for b, n in blocks for w in b.weights())


@pytest.mark.parametrize(("section", "bits"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_bytes_of_a_section(section: dict[str, Any], bits: float) -> None:
    model = from_config({**LLAMA, "quantization_config": section}, "x")
    assert stored_bits(model) == pytest.approx(bits, rel=1e-3)
    assert not [n for n in model.notes if "not understood" in n]


def test_kv_format_inside_a_nested_section() -> None:
    section = CASES[7][1]
    assert str(from_config({**LLAMA, "quantization_config": section}, "x").kv_format) == "fp8"


@pytest.mark.parametrize("names", [("quantization",), ("quantization", "quantization_config")])
def test_mlx_sections_cover_embeddings_and_single_modules(names: tuple[str, ...]) -> None:
    """mlx-lm: 4 bits in groups of 64 with a 16-bit scale and bias; single modules have their own or none."""
    own = {"model.layers.0.mlp.down_proj": {"group_size": 64, "bits": 8}, "lm_head": False}
    model = from_config({**LLAMA, **{n: {"group_size": 64, "bits": 4, **own} for n in names}}, "x")
    one = HIDDEN * INNER
    assert stored_bits(model) == pytest.approx((LINEAR + END - one) * 4.5 + one * 8.5 + END * 16, rel=1e-3)
    assert not [n for n in model.notes if "not understood" in n]


def test_bitnet_packs_four_weights_in_a_byte() -> None:
    """BitNet b1.58 2B4T's file is 1.18 GB (its card): ternary weights in 2 bits beside a bf16 embedding."""
    fields = {"model_type": "bitnet", "hidden_size": 2560, "num_hidden_layers": 30, "num_attention_heads": 20,
              "num_key_value_heads": 5, "intermediate_size": 6912, "vocab_size": 128256, "torch_dtype": "bfloat16",
              "tie_word_embeddings": True,
              "quantization_config": {"quant_method": "bitnet", "quantization_mode": "offline"}}  # fmt: skip
    assert stored_bits(from_config(fields, "x")) / 8 == pytest.approx(1.18e9, rel=0.01)


def test_an_unknown_method_is_refused_with_a_way_round() -> None:
    with pytest.raises(TierwiseError, match="--weights"):
        from_config({**LLAMA, "quantization_config": {"quant_method": "spqr"}}, "x")
