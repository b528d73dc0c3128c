"""CLIP (arXiv:2103.00020): an image tower and a text tower that meet in one embedding space.

Shapes after `transformers` (models/clip). The text tower is causal but never decodes, so it encodes.
"""

from __future__ import annotations

from tierwise.models.blocks.common import Extra, Linear, Norm, Projection
from tierwise.models.blocks.ends import Embedding
from tierwise.models.blocks.patch import PatchEmbed
from tierwise.models.config import Config
from tierwise.models.families._common import context, depth, stack, with_defaults
from tierwise.models.families._encoder import encoder_layer, patches
from tierwise.models.types import Model, Stack

TYPES = ("clip",)
# Usual fields that no count follows from here (or that others say again).
ASIDE = ("projection_dim",)


def build(c: Config, name: str) -> Model:
    shared = c.size("projection_dim", default=512.0)
    v, t = c.section("vision_config"), c.section("text_config")
    text = _text(t, shared)
    hidden, vocab = t.size("hidden_size", default=512.0), t.size("vocab_size", default=49408.0)
    return Model(name, "clip", hidden, vocab, (_vision(v, shared), text), max_context=context(t), task="encode")


def _vision(v: Config, shared: float) -> Stack:
    hidden, patch = v.size("hidden_size", default=768.0), v.size("patch_size", default=32.0)
    tokens = patches(v, v.size("image_size", default=224.0), patch) + 1.0
    layer = encoder_layer(
        hidden,
        v.size("num_attention_heads", default=12.0),
        v.size("intermediate_size", default=3072.0),
        role="vision",
    )
    embed = PatchEmbed(v.size("num_channels", default=3.0), patch, hidden, tokens, 1.0, bias=False)
    return stack(
        "vision",
        [layer] * depth(with_defaults(v, num_hidden_layers=12)),
        before=(embed, Norm(hidden, bias=True, name="pre_norm", residual=False)),
        after=(
            Norm(hidden, bias=True, name="final_norm"),
            Projection(Linear("visual_projection", hidden, shared, role="vision"), once=True),
        ),
        stream="vision",
        tokens=tokens,
        patch=patch,
        extra_tokens=1.0,
    )


def _text(t: Config, shared: float) -> Stack:
    hidden, vocab = t.size("hidden_size", default=512.0), t.size("vocab_size", default=49408.0)
    layer = encoder_layer(
        hidden,
        t.size("num_attention_heads", default=8.0),
        t.size("intermediate_size", default=2048.0),
        causal=True,
    )
    return stack(
        "text",
        [layer] * depth(with_defaults(t, num_hidden_layers=12)),
        before=(
            Embedding(vocab, hidden),
            Embedding(t.size("max_position_embeddings", default=77.0), hidden, name="position"),
        ),
        after=(
            Norm(hidden, bias=True, name="final_norm"),
            Projection(Linear("text_projection", hidden, shared, role="mlp"), once=True),
            Extra("logit_scale", 1.0),
        ),
        stream="encode",
    )
