"""Qwen3-Next, Qwen3.5 and Qwen3.6: three Gated DeltaNet layers for each layer of gated attention.

Shapes after `transformers` (models/qwen3_next, qwen3_5, qwen3_5_moe): attention has an output gate and
normed heads; the multimodal releases add an image tower whose 2×2 patches are merged into one token.
"""

from __future__ import annotations

from tierwise.core.numerics import fmt
from tierwise.models.blocks.delta_net import GatedDeltaNet
from tierwise.models.blocks.moe import MoE
from tierwise.models.config import Config
from tierwise.models.families._common import (
    attention,
    decoder,
    depth,
    every,
    layer_types,
    modules,
    mtp_stack,
    pre_norm,
)
from tierwise.models.families.qwen import feed_forward
from tierwise.models.families.qwen3_vl import qwen_tower
from tierwise.models.types import Layer, Model, Stack

TYPES = ("qwen3_next", "qwen3_5", "qwen3_5_moe", "qwen3_5_text", "qwen3_5_moe_text")
# Usual fields that no count follows from here (or that others say again).
ASIDE = ("intermediate_size", "attn_output_gate")


def build(c: Config, name: str) -> Model:
    text = c.section("text_config") if c.has("text_config") else c
    layers = _layers(text)
    others = [qwen_tower(c.section("vision_config"))] if c.has("vision_config") else []
    return decoder(text, name, layers, other=(*others, *_mtp(text)), top=c)


def _layers(c: Config) -> list[Layer]:
    n = depth(c)
    interval = int(c.size("full_attention_interval", default=4.0))
    kinds = layer_types(c, n, every(n, interval, "full_attention", "linear_attention"))
    return [_layer(c, kind, i) for i, kind in enumerate(kinds)]


def _layer(c: Config, kind: str, index: int) -> Layer:
    hidden = c.size("hidden_size")
    ffn = feed_forward(c, index)
    label = "moe" if isinstance(ffn, MoE) else "mlp"
    if kind != "linear_attention":
        bias = c.flag("attention_bias")
        attn = attention(c, gate=True, qk_norm="head", qkv_bias=bias, out_bias=bias)
        return pre_norm("attention+" + label, hidden, attn, ffn)
    delta = GatedDeltaNet(
        hidden,
        c.size("linear_num_key_heads"),
        c.size("linear_num_value_heads"),
        c.size("linear_key_head_dim"),
        c.size("linear_value_head_dim"),
        c.size("linear_conv_kernel_dim"),
        state_format=fmt(c.text("mamba_ssm_dtype")) if c.has("mamba_ssm_dtype") else None,
    )
    return pre_norm("delta+" + label, hidden, delta, ffn)


def _mtp(c: Config) -> list[Stack]:
    n = modules(c, "mtp_num_hidden_layers")
    if not n:
        return []
    return [mtp_stack(c.size("hidden_size"), c.size("vocab_size"), [_layer(c, "full_attention", depth(c) - 1)] * n)]
