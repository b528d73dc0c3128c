"""Pix2Struct (arXiv:2210.03347): an encoder over patches of a screenshot, and T5's decoder.

Shapes after `transformers` (models/pix2struct): RMS norms before each block, no biases, gated MLPs, positions of rows
and columns in two tables, the decoder's first layer has one of relative positions.
"""

from __future__ import annotations

from tierwise.models.blocks.attention import Attention
from tierwise.models.blocks.common import Extra, Linear, Norm, Projection
from tierwise.models.blocks.ends import Embedding, Head
from tierwise.models.blocks.mlp import MLP
from tierwise.models.config import Config
from tierwise.models.families._common import depth, pre_norm, stack
from tierwise.models.types import Model, Stack

TYPES = ("pix2struct",)
ASIDE = ("is_vqa", "relative_attention_max_distance", "add_cross_attention", "relative_attention_num_buckets",
         "tie_word_embeddings")  # fmt: skip
# A screenshot is scaled to fill so many (``max_patches`` of `transformers`' Pix2StructImageProcessor).
PATCHES = 2048.0


def build(c: Config, name: str) -> Model:
    t, v = c.section("text_config"), c.section("vision_config")
    hidden, heads, vocab = t.size("hidden_size"), t.size("num_heads"), t.size("vocab_size")
    own = Attention(hidden, heads, heads, t.size("d_kv"))
    cross = Attention(hidden, heads, heads, t.size("d_kv"), source="cross", name="cross")
    layer = pre_norm("attention+mlp", hidden, own, cross, MLP(hidden, t.size("d_ff")))
    distances = Extra("relative_positions", t.size("relative_attention_num_buckets", default=32.0) * heads)
    text = stack("decoder", [layer] * depth(t, "num_layers"), before=(Embedding(vocab, hidden), distances),
                 after=(Norm(hidden, name="final_norm"), Head(hidden, vocab)))  # fmt: skip
    encoder = screenshot(v, v.size("seq_len", default=4096.0), v.size("d_ff"), v.size("d_kv"))
    return Model(name, "pix2struct", hidden, vocab, (encoder, text))


def screenshot(v: Config, rows: float, inner: float, head_dim: float) -> Stack:
    """The encoder: flattened patches, positions of up to ``rows`` rows and columns. Every request brings a picture."""
    hidden, heads = v.size("hidden_size"), v.size("num_attention_heads")
    attn = Attention(hidden, heads, heads, head_dim, causal=False, role="vision", name="vision.attn")
    layer = pre_norm("vision", hidden, attn, MLP(hidden, inner, role="vision", name="vision.mlp"))
    flat = Linear("patch_projection", v.size("patch_embed_hidden_size", default=768.0), hidden, True, "vision")
    before = (Projection(flat), Extra("positions", 2.0 * rows * hidden))
    return stack("vision", [layer] * depth(v), before=before, after=(Norm(hidden, name="final_norm"),),
                 stream="audio", tokens=PATCHES)  # fmt: skip
