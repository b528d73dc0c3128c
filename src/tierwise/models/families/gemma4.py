"""Gemma 4: sliding layers, full ones with wider heads whose values may be their keys, experts beside an MLP.

Shapes after `transformers` (models/gemma4). The audio tower of the small models is left out.
"""

from __future__ import annotations

from tierwise.models.blocks.attention import Attention
from tierwise.models.blocks.common import Extra, Linear, Norm, Projection
from tierwise.models.blocks.moe import MoE
from tierwise.models.config import Config
from tierwise.models.families._common import decoder, depth, every, heads, layer_types, mlp, sandwich
from tierwise.models.families._tower import tower
from tierwise.models.families.gemma import per_layer_input
from tierwise.models.types import Block, Layer, Model, Stack

TYPES = ("gemma4", "gemma4_text", "gemma4_unified", "gemma4_unified_text")
# Usual fields that no count follows from here (or that others say again).
ASIDE = ("global_head_dim", "head_dim", "num_key_value_heads")


def build(c: Config, name: str) -> Model:
    text = c.section("text_config") if c.has("text_config") else c
    ends, inside = per_layer_input(text, depth(text))
    vision = [_tower(c.section("vision_config"), c, text.size("hidden_size"))] if c.has("vision_config") else []
    notes = ["audio tower left out"] if c.has("audio_config") else []
    return decoder(text, name, _layers(text, inside), tied=True, after_embedding=ends, other=vision, top=c, notes=notes)


def _layers(c: Config, inside: list[Block]) -> list[Layer]:
    n, hidden = depth(c), c.size("hidden_size")
    window = c.size("sliding_window", default=512.0)
    first_shared = n - int(c.size("num_kv_shared_layers", default=0.0, least=0))
    layers = []
    for i, kind in enumerate(layer_types(c, n, every(n, 6, "full_attention", "sliding_attention"))):
        sliding, shared = kind == "sliding_attention" and i < n - 1, i >= first_shared
        attn = _attention(c, window if sliding else None, shared)
        wide = 2.0 if shared and c.flag("use_double_wide_mlp") else 1.0
        ffn = mlp(c.but(intermediate_size=wide * c.size("intermediate_size")))
        body = list(sandwich("", hidden, attn, ffn).blocks)
        label = ("sliding" if sliding else "attention") + ("-shared" if shared else "")
        if c.flag("enable_moe_block"):
            body += _experts(c)
            label += "+moe"
        layers.append(Layer(label, (*body, *inside)))
    return layers


def _attention(c: Config, window: float | None, shared: bool) -> Attention:
    """Full layers have their own head width; with ``attention_k_eq_v`` their own KV heads and no values."""
    h, kv, d = heads(c)
    same = window is None and c.flag("attention_k_eq_v")
    if window is None:
        d = c.size("global_head_dim", default=512.0)
        kv = c.size("num_global_key_value_heads", default=kv) if same else kv
    return Attention(
        c.size("hidden_size"), h, kv, d, window=window, qk_norm="head", k_eq_v=same,
        source="shared" if shared else "self",
    )  # fmt: skip


def _experts(c: Config) -> list[Block]:
    """Experts with norms of their own, beside the dense MLP; the router scales channels and experts."""
    hidden, experts = c.size("hidden_size"), c.size("num_experts")
    moe = MoE(
        hidden,
        experts,
        c.size("top_k_experts", "num_experts_per_tok", default=8.0),
        c.size("moe_intermediate_size", "expert_intermediate_size"),
        extra=hidden + experts,
    )
    return [
        Norm(hidden, name="moe_norm", residual=False),
        moe,
        Norm(hidden, name="moe_post_norm", residual=False),
        Norm(hidden, name="mlp_post_norm", residual=False),
    ]


def _tower(v: Config, c: Config, width: float) -> Stack:
    """Gated MLPs, four norms a layer, positions as two tables; squares of patches are averaged at the end."""
    hidden, patch = v.size("hidden_size"), v.size("patch_size")
    pool = v.size("pooling_kernel_size", default=3.0) ** 2
    soft = c.size("vision_soft_tokens_per_image", default=280.0)
    patches = soft * pool
    return tower(
        hidden,
        v.size("num_attention_heads"),
        v.size("intermediate_size"),
        depth(v),
        before=[
            Projection(Linear("patch_embed", 3.0 * patch**2, hidden, role="vision")),
            Extra("positions", 2.0 * v.size("position_embedding_size") * hidden, "norm"),
        ],
        after=[Projection(Linear("projector", hidden, width, role="vision"), 1.0 / pool)],
        tokens=patches,
        patch=patch,
        gated=True,
        bias=False,
        qk_norm="head",
        four_norms=True,
        head_dim=v.size("head_dim", default=None),
        kv_heads=v.size("num_key_value_heads", default=None),
    )
