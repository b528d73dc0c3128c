"""Kosmos-2 (arXiv:2306.14824) and 2.5 (arXiv:2309.11419): an image tower (CLIP's; Pix2Struct's), its patches gathered
into fewer tokens, and a decoder with norms inside its MLP, and once inside attention.

Shapes after `transformers` (models/kosmos2, models/kosmos2_5): LayerNorms, biases, computed positions, a tied head.
"""

from __future__ import annotations

from dataclasses import replace

from tierwise.core.num import Num
from tierwise.models.blocks.common import Extra, Linear, Norm, Projection
from tierwise.models.blocks.mlp import MLP
from tierwise.models.blocks.patch import PatchEmbed
from tierwise.models.config import Config
from tierwise.models.families._common import attention, decoder, depth
from tierwise.models.families._tower import grid, tower
from tierwise.models.families.pix2struct import screenshot
from tierwise.models.types import Block, Layer, Model, Stack

TYPES = ("kosmos-2", "kosmos-2.5")
ASIDE = ("scale_embedding", "add_cross_attention", "layerdrop")


def build(c: Config, name: str) -> Model:
    t = c.section("text_config")
    hidden, inner = t.size("embed_dim", "hidden_size"), t.size("ffn_dim")
    t = t.but(hidden_size=hidden, num_attention_heads=t.size("attention_heads", "num_attention_heads"))
    pages = c.text("model_type") == "kosmos-2.5"
    norm = Norm(hidden, True)
    within = () if pages else (Norm(hidden, True, "inner_norm", residual=False),)
    mlp = MLP(hidden, inner, gated=False, bias=True)
    # The norm of the MLP's inner width stands behind it here: of its products it is a small part.
    wide = Norm(inner, True, "mlp_norm", residual=False)
    layer = Layer("attention+mlp", (norm, attention(t, qkv_bias=True, out_bias=True), *within, norm, mlp, wide))
    v = c.section("vision_config")
    seen = _pages(v) if pages else _clip(v)
    ends = _gather(seen.tokens, v.size("hidden_size"), hidden, c.size("latent_query_num"))
    return decoder(t, name, [layer] * depth(t, "layers", "num_hidden_layers"), tied=True, norm_bias=True,
                   after_embedding=[Extra("segments", 2.0 * hidden, "embed")] if pages else (),
                   other=[replace(seen, after=(*seen.after, *ends))], top=c)  # fmt: skip


def _gather(tokens: Num, hidden: float, text: float, queries: float) -> list[Block]:
    """A map to the decoder's width, and one attention of learned queries to patches and to themselves; its scores are a
    small part."""
    share = queries / tokens
    maps = [(n, 1.0 + share if n in ("k", "v") else share) for n in ("q", "k", "v", "out")]
    gather = [Projection(Linear(f"gather.{n}_proj", text, text, True, "vision"), ratio) for n, ratio in maps]
    dense = Projection(Linear("dense", hidden, text, True, "vision"))
    return [dense, Extra("latent_queries", queries * text), *gather]


def _pages(v: Config) -> Stack:
    most = v.size("max_num_patches", default=4096.0)
    found = screenshot(v, most, v.size("intermediate_size"), v.size("head_dim"))
    return replace(found, tokens=most, stream="vision")


def _clip(v: Config) -> Stack:
    hidden, (_, patch, patches) = v.size("hidden_size"), grid(v)
    tokens = patches + 1.0
    return tower(
        hidden,
        v.size("num_attention_heads"),
        v.size("intermediate_size"),
        depth(v),
        before=(PatchEmbed(v.size("num_channels", default=3.0), patch, hidden, tokens, 1.0, bias=False),
                Norm(hidden, True, "pre_norm", residual=False)),
        after=(Norm(hidden, True, "final_norm"),),
        tokens=tokens,
        patch=patch,
        extra_tokens=1.0,
    )  # fmt: skip
