"""Gemma 1, 2, 3 and 3n: wide heads, tied head, norms around every block, mostly sliding attention.

Shapes after `transformers` (models/gemma, gemma2, gemma3, gemma3n), whose class defaults published Gemma 3
configurations leave out. Gemma 3n's image and audio towers are left out.
"""

from __future__ import annotations

from tierwise.core.errors import BadField
from tierwise.models.blocks.common import Extra, Linear, Norm, Projection
from tierwise.models.blocks.ends import Embedding
from tierwise.models.blocks.patch import PatchEmbed
from tierwise.models.config import Config
from tierwise.models.families._common import (
    attention,
    decoder,
    depth,
    every,
    layer_types,
    mlp,
    pre_norm,
    sandwich,
    with_defaults,
)
from tierwise.models.families._tower import grid, tower
from tierwise.models.types import Block, Layer, Model, Stack

TYPES = ("gemma", "gemma2", "gemma3", "gemma3_text", "gemma3n", "gemma3n_text")

_GEMMA3 = {
    "vocab_size": 262208, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
    "sliding_window": 4096, "max_position_embeddings": 131072, "sliding_window_pattern": 6,
}  # fmt: skip


def build(c: Config, name: str) -> Model:
    kind = c.text("model_type")
    text = c.section("text_config") if c.has("text_config") else c
    if kind == "gemma":
        attn = attention(c)
        return decoder(c, name, [pre_norm("decoder", attn.hidden, attn, mlp(c))] * depth(c), tied=True)
    if kind == "gemma2":
        return decoder(c, name, _alternating(c, 2, ""), tied=True)
    if kind in ("gemma3n", "gemma3n_text"):
        return _nano(text, name, c)
    text = with_defaults(text, **_GEMMA3)
    vision = [_tower(c.section("vision_config"), c, text.size("hidden_size"))] if c.has("vision_config") else []
    layers = _alternating(text, int(text.size("sliding_window_pattern")), "head")
    return decoder(text, name, layers, tied=True, other=vision, top=c)


def _alternating(c: Config, pattern: int, qk_norm: str) -> list[Layer]:
    """Sliding layers, every ``pattern``-th one full."""
    n, window = depth(c), c.size("sliding_window", default=4096.0)
    layers = []
    for kind in layer_types(c, n, every(n, pattern, "full_attention", "sliding_attention")):
        sliding = kind == "sliding_attention"
        attn = attention(c, window=window if sliding else None, qk_norm=qk_norm)
        layers.append(sandwich("sliding" if sliding else "attention", attn.hidden, attn, mlp(c)))
    return layers


def _tower(v: Config, c: Config, width: float) -> Stack:
    """SigLIP; its tokens are averaged to ``mm_tokens_per_image`` and projected."""
    hidden, (_, patch, patches) = v.size("hidden_size"), grid(v)
    part = c.size("mm_tokens_per_image", default=256.0) / patches
    return tower(
        hidden,
        v.size("num_attention_heads"),
        v.size("intermediate_size"),
        depth(v),
        before=[PatchEmbed(v.size("num_channels", default=3.0), patch, hidden, patches)],
        after=[
            Norm(hidden, True, "final_norm"),
            Norm(hidden, name="projector_norm", residual=False),
            Projection(Linear("projector", hidden, width, role="vision"), part),
        ],
        tokens=patches,
        patch=patch,
    )


def per_layer_input(c: Config, n: int) -> tuple[list[Block], list[Block]]:
    """Embeddings of every layer's own: (blocks behind the embedding, blocks at the end of a layer)."""
    hidden, width = c.size("hidden_size"), c.size("hidden_size_per_layer_input", default=0.0, least=0)
    if not width:
        return [], []
    ends: list[Block] = [
        Embedding(c.size("vocab_size_per_layer_input"), n * width, "embed_per_layer"),
        Projection(Linear("per_layer_model_projection", hidden, n * width, role="mlp")),
        Extra("per_layer_projection_norm", width),
    ]
    inside: list[Block] = [
        Projection(Linear("per_layer_gate", hidden, width, role="mlp")),
        Projection(Linear("per_layer_projection", width, hidden, role="mlp")),
        Norm(hidden, name="per_layer_norm", residual=False),
    ]
    return ends, inside


def _nano(c: Config, name: str, top: Config) -> Model:
    """Gemma 3n: parallel residual streams (AltUp), low-rank residuals (LAuReL), shared KV at the end."""
    n, hidden, streams = depth(c), c.size("hidden_size"), c.size("altup_num_inputs", default=4.0)
    rank = c.size("laurel_rank", default=64.0)
    ends, inside = per_layer_input(c, n)
    window = c.size("sliding_window", default=512.0)
    first_shared = n - int(c.size("num_kv_shared_layers", default=0.0, least=0))
    widths = c.raw("intermediate_size")
    inner = c.sizes("intermediate_size") if isinstance(widths, list) else [c.size("intermediate_size")] * n
    if len(inner) < n:
        raise BadField(c.where, c.path + "intermediate_size", widths, f"a width, or {n} of them")
    # Mixing coefficients, their router and its norm; the mixing itself is elementwise over the streams.
    mix = Extra("altup", 2.0 * hidden + streams**2 + streams**3 + streams * hidden)
    laurel: list[Block] = [
        Projection(Linear("laurel_left", hidden, rank, role="mlp")),
        Projection(Linear("laurel_right", rank, hidden, role="mlp")),
        Norm(hidden, name="laurel_norm", residual=False),
    ]
    layers = []
    for i, kind in enumerate(layer_types(c, n, every(n, 5, "full_attention", "sliding_attention"))):
        sliding = kind == "sliding_attention"
        source = "shared" if i >= first_shared else "self"
        attn = attention(c, window=window if sliding else None, qk_norm="head", source=source)
        ffn = mlp(c.but(intermediate_size=inner[i]))
        body = sandwich("", hidden, attn, ffn).blocks
        label = ("sliding" if sliding else "attention") + ("-shared" if source == "shared" else "")
        layers.append(Layer(label, (*body, *laurel, mix, *inside)))
    mixers = Projection(Linear("altup_projections", hidden, (streams - 1.0) * hidden, role="mlp"))
    notes = ["image and audio towers left out"] if c is not top else []
    return decoder(
        c,
        name,
        layers,
        tied=True,
        after_embedding=[*ends, mixers],
        before_head=[mixers],
        top=top,
        notes=notes,
    )
