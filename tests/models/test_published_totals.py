"""Types whose structure their fields do not say, against what was published of one checkpoint each."""

from __future__ import annotations

from typing import Any

import pytest

from tierwise.core.errors import TierwiseError
from tierwise.models.blocks.mla import MLA
from tierwise.models.hf import from_config
from tierwise.models.lower import state_bytes
from tierwise.models.step import Step
from tierwise.models.types import Model
from tierwise.scenario.types import Plan

# Fields as published on the model's page; totals in billions from its report or card.
PUBLISHED: dict[str, tuple[float, float, dict[str, Any]]] = {
    # Kimi Linear report (arXiv:2510.26692): 48 B in all.
    "kimi_linear": (49.1, 0.005, {
        "hidden_size": 2304, "num_hidden_layers": 27, "num_attention_heads": 32, "num_key_value_heads": 32,
        "intermediate_size": 9216, "moe_intermediate_size": 1024, "vocab_size": 163840, "kv_lora_rank": 512,
        "q_lora_rank": None, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "num_experts": 256,
        "num_experts_per_token": 8, "num_shared_experts": 1, "first_k_dense_replace": 1, "moe_layer_freq": 1,
        "linear_attn_config": {"full_attn_layers": [4, 8, 12, 16, 20, 24, 27], "head_dim": 128, "num_heads": 32,
                               "short_conv_kernel_size": 4}}),
    # LongCat-Flash report (arXiv:2509.01322): 560 B, 18.6 to 31.3 B active a token, 27 on average.
    "longcat_flash": (560.0, 0.005, {
        "hidden_size": 6144, "num_layers": 28, "num_attention_heads": 64, "ffn_hidden_size": 12288,
        "expert_ffn_hidden_size": 2048, "n_routed_experts": 512, "zero_expert_num": 256, "moe_topk": 12,
        "kv_lora_rank": 512, "q_lora_rank": 1536, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
        "vocab_size": 131072}),
    # MiMo-V2-Flash's card: 309 B, 15 B active.
    "mimo_v2_flash": (309.0, 0.003, {
        "hidden_size": 4096, "num_hidden_layers": 48, "num_attention_heads": 64, "num_key_value_heads": 4,
        "head_dim": 192, "v_head_dim": 128, "swa_num_key_value_heads": 8, "sliding_window_size": 128,
        "hybrid_layer_pattern": [*[0, *([1, 1, 1, 1, 1, 0] * 8)][:47], 0], "n_routed_experts": 256,
        "moe_layer_freq": [0] + [1] * 47, "moe_intermediate_size": 2048, "intermediate_size": 16384,
        "num_experts_per_tok": 8, "vocab_size": 152576}),
    # LFM2's card: 1.17 B; the width of its MLPs follows from a rule of three fields.
    "lfm2": (1.17, 0.005, {
        "hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8,
        "block_ff_dim": 12288, "block_auto_adjust_ff_dim": True, "block_ffn_dim_multiplier": 1.0,
        "block_multiple_of": 256, "conv_L_cache": 3, "full_attn_idxs": [2, 5, 8, 10, 12, 14], "vocab_size": 65536,
        "tie_word_embeddings": True}),
    # Falcon-H1 report (arXiv:2507.22448), table of sizes: 34 B.
    "falcon_h1": (33.6, 0.01, {
        "hidden_size": 5120, "num_hidden_layers": 72, "num_attention_heads": 20, "num_key_value_heads": 4,
        "head_dim": 128, "intermediate_size": 21504, "mamba_d_ssm": 4096, "mamba_n_heads": 32, "mamba_d_head": 128,
        "mamba_d_state": 256, "mamba_n_groups": 2, "mamba_rms_norm": False, "vocab_size": 261120}),
    # Cards: 6.05 B, 15.5 B, 15.96 B, 6.65 B.
    "gptj": (6.05, 0.002, {"n_embd": 4096, "n_layer": 28, "n_head": 16, "vocab_size": 50400, "n_inner": None}),
    "gpt_bigcode": (15.5, 0.005, {"n_embd": 6144, "n_layer": 40, "n_head": 48, "n_inner": 24576, "vocab_size": 49152,
                                  "n_positions": 8192, "multi_query": True}),
    "starcoder2": (15.96, 0.002, {
        "hidden_size": 6144, "num_hidden_layers": 40, "num_attention_heads": 48, "num_key_value_heads": 4,
        "intermediate_size": 24576, "vocab_size": 49152, "use_bias": True, "sliding_window": 4096,
        "tie_word_embeddings": False}),
    "mpt": (6.65, 0.002, {"d_model": 4096, "n_layers": 32, "n_heads": 32, "vocab_size": 50432, "max_seq_len": 2048}),
    # BitNet b1.58 2B4T (arXiv:2504.12285), and Apertus (arXiv:2509.14233), whose activation has no gate.
    "bitnet": (2.41, 0.01, {
        "hidden_size": 2560, "num_hidden_layers": 30, "num_attention_heads": 20, "num_key_value_heads": 5,
        "intermediate_size": 6912, "vocab_size": 128256, "hidden_act": "relu2", "tie_word_embeddings": True}),
    "apertus": (8.05, 0.003, {
        "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
        "intermediate_size": 21504, "vocab_size": 131072, "hidden_act": "xielu", "qk_norm": True,
        "tie_word_embeddings": False}),
    # BART-large: 406 M; NLLB-200-3.3B: 3.3 B; opus-mt (Marian, transformer-align): 74 M.
    "bart": (0.406, 0.002, {
        "d_model": 1024, "encoder_layers": 12, "decoder_layers": 12, "encoder_attention_heads": 16,
        "decoder_attention_heads": 16, "encoder_ffn_dim": 4096, "decoder_ffn_dim": 4096, "vocab_size": 50265,
        "max_position_embeddings": 1024}),
    "m2m_100": (3.345, 0.003, {
        "d_model": 2048, "encoder_layers": 24, "decoder_layers": 24, "encoder_attention_heads": 16,
        "decoder_attention_heads": 16, "encoder_ffn_dim": 8192, "decoder_ffn_dim": 8192, "vocab_size": 256206}),
    # ModernBERT-large (arXiv:2412.13663): 395 M; DeBERTa-v3-large: 434 M with a masked-language head or without;
    # DistilBERT: 66 M; ELECTRA-large's discriminator: 335 M.
    "modernbert": (0.395, 0.003, {
        "hidden_size": 1024, "num_hidden_layers": 28, "num_attention_heads": 16, "intermediate_size": 2624,
        "vocab_size": 50368, "global_attn_every_n_layers": 3, "local_attention": 128}),
    "deberta-v2": (0.434, 0.006, {
        "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096,
        "vocab_size": 128100, "relative_attention": True, "position_buckets": 256, "position_biased_input": False,
        "type_vocab_size": 0, "max_position_embeddings": 512, "max_relative_positions": -1}),
    "distilbert": (0.066, 0.02, {"dim": 768, "n_layers": 6, "n_heads": 12, "hidden_dim": 3072, "vocab_size": 30522}),
    "electra": (0.335, 0.01, {
        "hidden_size": 1024, "embedding_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
        "intermediate_size": 4096, "vocab_size": 30522}),
}  # fmt: skip

# Multimodal: towers and projectors count.
MULTIMODAL: dict[str, tuple[float, float, dict[str, Any]]] = {
    # Qwen2.5-VL-7B's index: 8.292 B.
    "qwen2_5_vl": (8.292, 0.002, {
        "hidden_size": 3584, "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4,
        "intermediate_size": 18944, "vocab_size": 152064, "tie_word_embeddings": False,
        "text_config": {"model_type": "qwen2", "hidden_size": 3584, "num_hidden_layers": 28, "num_attention_heads": 28,
                        "num_key_value_heads": 4, "intermediate_size": 18944, "vocab_size": 152064},
        "vision_config": {"model_type": "qwen2_5_vl", "depth": 32, "hidden_size": 1280, "intermediate_size": 3420,
                          "num_heads": 16, "out_hidden_size": 3584, "patch_size": 14, "spatial_merge_size": 2}}),
    # LLaVA-1.5-7B: 7.063 B. Its sections hold what differs from their classes only.
    "llava": (7.063, 0.001, {
        "text_config": {"model_type": "llama", "vocab_size": 32064},
        "vision_config": {"model_type": "clip_vision_model", "hidden_size": 1024, "intermediate_size": 4096,
                          "num_hidden_layers": 24, "num_attention_heads": 16, "patch_size": 14, "image_size": 336}}),
    # PaliGemma-3B: 2.92 B.
    "paligemma": (2.923, 0.003, {
        "text_config": {"model_type": "gemma", "hidden_size": 2048, "intermediate_size": 16384,
                        "num_attention_heads": 8, "num_hidden_layers": 18, "num_key_value_heads": 1,
                        "vocab_size": 257216},
        "vision_config": {"model_type": "siglip_vision_model", "hidden_size": 1152, "intermediate_size": 4304,
                          "num_attention_heads": 16, "num_hidden_layers": 27, "patch_size": 14}}),
    # Voxtral-Mini-3B: 4.68 B with its audio encoder.
    "voxtral": (4.676, 0.006, {
        "text_config": {"model_type": "llama", "hidden_size": 3072, "intermediate_size": 8192, "head_dim": 128,
                        "num_attention_heads": 32, "num_hidden_layers": 30, "num_key_value_heads": 8,
                        "vocab_size": 131072},
        "audio_config": {"model_type": "voxtral_encoder", "hidden_size": 1280, "intermediate_size": 5120,
                         "num_hidden_layers": 32, "num_attention_heads": 20, "num_mel_bins": 128,
                         "max_source_positions": 1500}}),
}  # fmt: skip

# What `transformers` 5.24 builds on the meta device of published sizes: (architecture, parameters, fields).
EXACT: dict[str, tuple[str, int, dict[str, Any]]] = {
    "xlnet": ("XLNetLMHeadModel", 116750336, {"d_model": 768, "n_layer": 12, "n_head": 12, "d_head": 64,
                                              "d_inner": 3072, "vocab_size": 32000}),
    "xlstm": ("xLSTMForCausalLM", 6865424896, {"hidden_size": 4096, "num_hidden_layers": 32, "num_heads": 8,
                                               "vocab_size": 50304}),
    "zamba": ("ZambaForCausalLM", 7232490496, {"hidden_size": 3712, "num_hidden_layers": 76, "vocab_size": 32000,
                                               "intermediate_size": 14848, "num_attention_heads": 16}),
    "albert": ("AlbertModel", 11683584, {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
                                         "intermediate_size": 3072, "vocab_size": 30000}),
    "longformer": ("LongformerModel", 148659456, {
        "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
        "vocab_size": 50265, "type_vocab_size": 1, "max_position_embeddings": 4098}),
    "nomic_bert": ("NomicBertModel", 136731648, {"n_embd": 768, "n_layer": 12, "n_head": 12, "n_inner": 3072,
                                                 "vocab_size": 30528}),
    "kosmos-2": ("Kosmos2ForConditionalGeneration", 1664485376, {
        "text_config": {"layers": 24, "embed_dim": 2048, "ffn_dim": 8192, "attention_heads": 32, "vocab_size": 65037},
        "vision_config": {"hidden_size": 1024, "num_hidden_layers": 24, "intermediate_size": 4096,
                          "num_attention_heads": 16}}),
    "kosmos-2.5": ("Kosmos2_5ForConditionalGeneration", 1374646272, {
        "text_config": {"layers": 24, "embed_dim": 1536, "ffn_dim": 6144, "attention_heads": 16, "vocab_size": 108481},
        "vision_config": {"hidden_size": 1536, "num_hidden_layers": 18, "intermediate_size": 3968,
                          "num_attention_heads": 24}}),
    "pix2struct": ("Pix2StructForConditionalGeneration", 282285696, {
        "text_config": {"num_layers": 12, "hidden_size": 768, "d_ff": 2048, "num_heads": 12, "vocab_size": 50244},
        "vision_config": {"hidden_size": 768, "num_hidden_layers": 12, "d_ff": 2048, "num_attention_heads": 12}}),
    "seamless_m4t": ("SeamlessM4TForTextToText", 1370531840, {
        "hidden_size": 1024, "encoder_layers": 24, "decoder_layers": 24, "encoder_ffn_dim": 8192,
        "decoder_ffn_dim": 8192, "vocab_size": 256102}),
    "led": ("LEDForConditionalGeneration", 161844480, {
        "d_model": 768, "encoder_layers": 6, "decoder_layers": 6, "encoder_attention_heads": 12,
        "decoder_attention_heads": 12, "encoder_ffn_dim": 3072, "decoder_ffn_dim": 3072, "vocab_size": 50265}),
    # 222,913,152, and the head of its own that the file speaks of and checkpoints hold; the class ties it.
    "longt5": ("LongT5ForConditionalGeneration", 222913152 + 32128 * 768, {
        "d_model": 768, "d_kv": 64, "d_ff": 2048, "num_heads": 12, "num_layers": 12, "vocab_size": 32128,
        "num_decoder_layers": 12, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False,
        "encoder_attention_type": "transient-global"}),
    "pegasus_x": ("PegasusXForConditionalGeneration", 272218368, {
        "d_model": 768, "encoder_layers": 12, "decoder_layers": 12, "encoder_attention_heads": 12,
        "decoder_attention_heads": 12, "encoder_ffn_dim": 3072, "decoder_ffn_dim": 3072, "vocab_size": 96103}),
    "bigbird_pegasus": ("BigBirdPegasusForConditionalGeneration", 576891904, {
        "d_model": 1024, "encoder_layers": 16, "decoder_layers": 16, "vocab_size": 96103}),
}  # fmt: skip

# The same of decoders that no family builds: fields, and what the code of the type adds to them.
EXACT_GENERIC: dict[str, tuple[int, dict[str, Any]]] = {
    # Gates on the output of attention, norms behind blocks and on heads; the width of experts is its class's.
    "afmoe": (19031273408, {"hidden_size": 2048, "num_hidden_layers": 32, "num_attention_heads": 16,
                            "num_key_value_heads": 4, "intermediate_size": 6144, "vocab_size": 200192}),
    # LayerNorms with shifts.
    "stablelm": (1644515328, {"hidden_size": 2048, "num_hidden_layers": 24, "num_attention_heads": 32,
                              "num_key_value_heads": 32, "intermediate_size": 5632, "vocab_size": 100352,
                              "use_qkv_bias": True}),
}  # fmt: skip

# Published with code of their own, which `transformers` has not: (model type, total, active, KV elements a token).
REMOTE: dict[str, tuple[float, float, float, dict[str, Any]]] = {
    # Ling-flash-2.0's card: 103 B, 6.1 B active.
    "bailing_moe_v2": (103, 6.1, 32 * 2 * 4 * 128, {
        "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 4,
        "head_dim": 128, "intermediate_size": 9216, "moe_intermediate_size": 1024, "num_experts": 256,
        "num_experts_per_tok": 8, "num_shared_experts": 1, "first_k_dense_replace": 1,
        "moe_shared_expert_intermediate_size": 1024, "vocab_size": 157184, "use_qk_norm": True,
        "moe_router_enable_expert_bias": True, "tie_word_embeddings": False}),
    # Snowflake Arctic's card: 480 B, 17 B active; a dense residual MLP stands beside the experts.
    "arctic": (479, 17.3, 35 * 2 * 8 * 128, {
        "hidden_size": 7168, "intermediate_size": 4864, "num_hidden_layers": 35, "num_attention_heads": 56,
        "num_key_value_heads": 8, "num_local_experts": 128, "num_experts_per_tok": 2, "parallel_attn_mlp_res": True,
        "use_residual": True, "vocab_size": 32000, "tie_word_embeddings": False}),
    # MiniMax-M1 (arXiv:2506.13585): 456 B, 45.9 B active without embeddings; softmax attention in ten layers of 80.
    "minimax_m1": (456, 48.4, 10 * 2 * 8 * 128, {
        "hidden_size": 6144, "num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8,
        "head_dim": 128, "intermediate_size": 9216, "num_local_experts": 32, "num_experts_per_tok": 2,
        "vocab_size": 200064, "attn_type_list": ([0] * 7 + [1]) * 10, "tie_word_embeddings": False}),
    # Qwen-7B's card: 7.72 B.
    "qwen": (7.72, 7.72, 32 * 2 * 4096, {
        "hidden_size": 4096, "intermediate_size": 22016, "num_attention_heads": 32, "num_hidden_layers": 32,
        "kv_channels": 128, "vocab_size": 151936, "no_bias": True, "tie_word_embeddings": False}),
    # Hunyuan-Large (arXiv:2411.02265): 389 B, 52 B active; two layers share keys and values.
    "hunyuan": (389, 54.6, 32 * 2 * 8 * 128, {
        "hidden_size": 6400, "intermediate_size": 18304, "num_hidden_layers": 64, "num_attention_heads": 80,
        "num_key_value_heads": 8, "num_experts": 16, "moe_topk": 1, "num_shared_expert": 1, "use_cla": True,
        "cla_share_factor": 2, "vocab_size": 128512, "attention_head_dim": 128, "tie_word_embeddings": True,
        "use_qk_norm": True}),
    # LLaDA-8B's card: 8.02 B.
    "llada": (8.02, 8.02, 32 * 2 * 4096, {
        "d_model": 4096, "n_layers": 32, "n_heads": 32, "n_kv_heads": 32, "mlp_hidden_size": 12288,
        "vocab_size": 126464, "weight_tying": False}),
}  # fmt: skip


def model(kind: str, fields: dict[str, Any]) -> Model:
    return from_config({"model_type": kind, "torch_dtype": "bfloat16", **fields}, kind)


@pytest.mark.parametrize("kind", [*PUBLISHED, *MULTIMODAL])
def test_parameters_of_a_published_checkpoint(kind: str) -> None:
    billions, within, fields = {**PUBLISHED, **MULTIMODAL}[kind]
    assert float(model(kind, fields).parameters) == pytest.approx(billions * 1e9, rel=within)


@pytest.mark.parametrize(("kind", "billions", "within"), [
    ("longcat_flash", 27.0, 0.05), ("mimo_v2_flash", 15.0, 0.05), ("kimi_linear", 3.0, 0.2),
])  # fmt: skip
def test_active_parameters_of_a_published_checkpoint(kind: str, billions: float, within: float) -> None:
    assert float(model(kind, PUBLISHED[kind][2]).active_parameters) == pytest.approx(billions * 1e9, rel=within)


@pytest.mark.parametrize(("kind", "per_token", "fixed"), [
    # Two latents a layer; 9 layers of 4 heads (192 + 128) and 39 of 8 heads that see 128 tokens; 7 latent layers.
    ("longcat_flash", 2 * 28 * 576, 0),
    ("mimo_v2_flash", 9 * 4 * 320, 39 * 8 * 320 * 128),
    ("kimi_linear", 7 * 576, 0),
    # Attention in six layers of sixteen; one key and one value head for all; cross-attention caches no text.
    ("lfm2", 6 * 2 * 8 * 64, 0),
    ("gpt_bigcode", 40 * 2 * 128, 0),
    ("falcon_h1", 72 * 2 * 4 * 128, 0),
])  # fmt: skip
def test_cache_of_a_published_checkpoint(kind: str, per_token: float, fixed: float) -> None:
    kv, _, _ = state_bytes(Step(model(kind, PUBLISHED[kind][2]), Plan(), 1.0, 1.0, 9999.0, "decode"))
    assert float(kv) == 2.0 * (per_token * 10_000 + fixed)


@pytest.mark.parametrize("kind", REMOTE)
def test_types_with_code_of_their_own(kind: str) -> None:
    total, active, cached, fields = REMOTE[kind]
    found = model(kind, fields)
    kv, _, _ = state_bytes(Step(found, Plan(), 1.0, 1.0, 9999.0, "decode"))
    assert float(found.parameters) == pytest.approx(total * 1e9, rel=0.01)
    assert float(found.active_parameters) == pytest.approx(active * 1e9, rel=0.03)
    assert float(kv) == 2.0 * cached * 10_000


def test_experts_for_images_are_stored_and_visited_by_no_text() -> None:
    """ERNIE-4.5-VL-28B-A3B: widths of text and image experts; `transformers` counts 29.4 B for it."""
    text = {"model_type": "ernie4_5_vl_moe_text", "hidden_size": 2560, "intermediate_size": 12288,
            "num_hidden_layers": 28, "num_attention_heads": 20, "num_key_value_heads": 4, "moe_num_experts": 64,
            "moe_k": 6, "moe_num_shared_experts": 2, "moe_intermediate_size": [1536, 512], "vocab_size": 103424,
            "tie_word_embeddings": True, "mlp_layer_types": ["dense"] + ["sparse"] * 27}  # fmt: skip
    tower = {"model_type": "ernie4_5_vl_moe_vision", "depth": 32, "hidden_size": 1280, "intermediate_size": 5120,
             "num_heads": 16, "patch_size": 14, "spatial_merge_size": 2}  # fmt: skip
    found = model("ernie4_5_vl_moe", {"text_config": text, "vision_config": tower})
    assert float(found.parameters) == pytest.approx(29.4e9, rel=0.006)
    assert {s.stream for s in found.stacks if s.name == "image_experts"} == {"clip"}


def test_one_table_or_two_is_told_where_no_field_says() -> None:
    said = REMOTE["llada"][3]
    unsaid = {k: v for k, v in said.items() if k != "weight_tying"}
    assert not [n for n in model("llada", said).notes if "one table" in n]
    assert [n for n in model("llada", unsaid).notes if "0.52 B parameters" in n]


def test_layers_of_cross_attention_cache_no_text() -> None:
    """Llama 3.2 11B Vision: 8 of 40 layers look at the image (config's cross_attention_layers); 10.67 B in all."""
    text = {"hidden_size": 4096, "num_hidden_layers": 40, "num_attention_heads": 32, "num_key_value_heads": 8,
            "intermediate_size": 14336, "vocab_size": 128256,
            "cross_attention_layers": [3, 8, 13, 18, 23, 28, 33, 38]}  # fmt: skip
    found = model("mllama", {"text_config": text})
    kv, _, _ = state_bytes(Step(found, Plan(), 1.0, 1.0, 999.0, "decode"))
    assert float(kv) == 2.0 * 32 * 2 * 8 * 128 * 1000
    assert float(found.parameters) == pytest.approx(9.775e9, rel=1e-3)


def test_what_no_family_builds_says_how_far_its_reading_is() -> None:
    """`transformers` counts 51.7 M for SqueezeBERT's class defaults: its maps are grouped convolutions. ConvBERT's
    106 M have fewer heads and narrower maps than BERT's fields say."""
    sizes = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
             "vocab_size": 30522}  # fmt: skip
    with pytest.raises(TierwiseError, match=r"squeezebert.*count \+\d+% parameters, too far to go by.*--as"):
        model("squeezebert", sizes)
    assert float(from_config({**sizes, "model_type": "squeezebert"}, "x", read_as="bert").parameters) > 1e8
    assert any("counts +" in note for note in model("convbert", sizes).notes)


@pytest.mark.parametrize("kind", EXACT)
def test_a_type_is_read_to_the_parameter(kind: str) -> None:
    name, count, fields = EXACT[kind]
    model = from_config({**fields, "model_type": kind, "architectures": [name]}, kind)
    assert (model.family, model.parameters) == (kind, count)
    assert not [note for note in model.notes if "not understood" in note]


@pytest.mark.parametrize("kind", EXACT_GENERIC)
def test_what_the_code_of_a_type_adds_is_counted_though_no_field_says_it(kind: str) -> None:
    count, fields = EXACT_GENERIC[kind]
    model = from_config({**fields, "model_type": kind}, kind)
    assert "generic decoder" in model.family
    assert model.parameters == count


def test_an_output_gate_is_a_map_as_wide_as_the_queries() -> None:
    _, fields = EXACT_GENERIC["afmoe"]
    gated, plain = (from_config({**fields, "model_type": "afmoe", "attn_output_gate": on}, "x") for on in (True, False))
    assert gated.parameters - plain.parameters == 32 * 2048 * 16 * 128


def test_experts_that_a_flag_turns_off_are_not_there() -> None:
    """Doge's class has 16,384 experts, and ``is_moe`` false."""
    doge = {"hidden_size": 1024, "num_hidden_layers": 32, "num_attention_heads": 8, "intermediate_size": 2048,
            "vocab_size": 32768, "model_type": "doge"}  # fmt: skip
    assert from_config(doge, "x").parameters == pytest.approx(403055872, rel=1e-3)


def test_layers_of_their_own_sizes_and_an_indexer_that_goes_by_an_earlier_one() -> None:
    """Latent attention: a windowed layer has no indexer, a shared one no maps, and one layer half the heads."""
    fields = {"model_type": "unheard_of", "hidden_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 8,
              "intermediate_size": 4096, "vocab_size": 1000, "kv_lora_rank": 128, "q_lora_rank": 256,
              "qk_nope_head_dim": 64, "qk_rope_head_dim": 32, "v_head_dim": 64, "index_topk": 256, "index_n_heads": 4,
              "index_head_dim": 64, "sliding_window": 512, "tie_word_embeddings": True,
              "layer_types": ["sliding_attention", *["full_attention"] * 3],
              "indexer_types": ["full", "full", "shared", "shared"],
              "per_layer_config": {"03": {"num_attention_heads": 4}}}  # fmt: skip
    attns = [k.blocks[1] for k, n in from_config(fields, "x").stack("decoder").runs() for _ in range(int(n))]
    found = [(a.window, a.indexer and a.indexer.full, a.heads) for a in attns if isinstance(a, MLA)]
    assert found == [(512.0, None, 8.0), (None, True, 8.0), (None, False, 8.0), (None, False, 4.0)]


def test_two_stacks_that_run_in_turns_store_each_layer_once() -> None:
    """HRM: 128 layers run, of two stacks of 16 (1,447,822,848 parameters at these sizes, its start state 1,536)."""
    hrm = {"model_type": "hrm_text", "hidden_size": 1536, "num_hidden_layers": 128, "num_attention_heads": 12,
           "intermediate_size": 4096, "vocab_size": 151808, "num_layers_per_stack": 16}  # fmt: skip
    model = from_config(hrm, "x")
    assert model.parameters == 1447822848 - 1536
    assert sum(n for _, n in model.stack("decoder").runs()) == 128


def test_layers_that_are_one_run_as_often_as_they_stand() -> None:
    """ALBERT: the work of BERT's twelve layers from the weights of one; its tables are 128 wide."""
    sizes = {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072, "vocab_size": 30000}
    sizes = {**sizes, "num_hidden_layers": 12}
    albert, bert = (from_config({**sizes, "model_type": kind}, kind) for kind in ("albert", "bert"))
    for one in (albert.stack("encoder"), bert.stack("encoder")):
        assert sum(n for _, n in one.runs()) == 12
    layers = [sum(float(k.parameters * n / k.copies) for k, n in m.stack("encoder").runs()) for m in (albert, bert)]
    assert layers[0] * 12 == layers[1]
