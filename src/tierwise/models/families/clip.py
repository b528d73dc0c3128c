"""CLIP (arXiv:2103.00020), SigLIP (arXiv:2303.15343) and SigLIP 2 (arXiv:2502.14786): an image tower and a text tower
that meet in one embedding space, or one of them by itself.

Shapes after `transformers` (models/clip, models/siglip, models/siglip2). CLIP's text tower is causal but never decodes,
so it encodes. SigLIP pools an image's tokens by an attention of one learned query, whose scores are a small part.
"""

from __future__ import annotations

from tierwise.models.blocks.common import Extra, Linear, Norm, Projection
from tierwise.models.blocks.ends import Embedding, Head
from tierwise.models.blocks.patch import PatchEmbed
from tierwise.models.config import Config
from tierwise.models.families._common import context, depth, stack, with_defaults
from tierwise.models.families._encoder import architecture, encoder_layer, labels, patches
from tierwise.models.types import Block, Model, Stack

TYPES = ("clip", "clip_text_model", "clip_vision_model", "siglip", "siglip_text_model", "siglip_vision_model",
         "siglip2", "siglip2_text_model", "siglip2_vision_model")  # fmt: skip
# Usual fields that no count follows from here (or that others say again).
ASIDE = ("projection_dim", "projection_size", "image_size", "logit_scale_init_value")


def build(c: Config, name: str) -> Model:
    kind, cls = c.text("model_type"), architecture(c)
    pairs = "clip" if kind.startswith("clip") else "siglip"
    shared = c.size("projection_dim", default=512.0) if pairs == "clip" else None
    v, t = (c.section(s) if c.given(s) or kind in ("clip", "siglip", "siglip2") else c
            for s in ("vision_config", "text_config"))  # fmt: skip
    sorts, parts = cls.endswith("ImageClassification"), ("VisionModel", "VisionModelWithProjection")
    if sorts or kind.endswith("_vision_model") or cls.endswith(parts):
        ends: tuple[Block, ...] = ()
        hidden = v.size("hidden_size", default=768.0)
        if sorts:
            ends = (Head(hidden, labels(c), bias=True, pooled=True),)
        elif cls.endswith("WithProjection"):
            ends = _joined("visual_projection", hidden, shared, "vision")
        seen = _vision(v, pairs, ends)
        return Model(name, kind, hidden, 0.0, (seen,), task="classify" if sorts else "encode")
    hidden, vocab = t.size("hidden_size", default=512.0), t.size("vocab_size", default=49408.0)
    if kind.endswith("_text_model") or cls.endswith(("TextModel", "TextModelWithProjection")):
        ends = _joined("text_projection", hidden, shared, "mlp") if cls.endswith("WithProjection") else ()
        return Model(name, kind, hidden, vocab, (_text(t, pairs, ends),), max_context=context(t), task="encode")
    seen = _vision(v, pairs, _joined("visual_projection", v.size("hidden_size", default=768.0), shared, "vision"))
    scales = Extra("logit_scale", 1.0 if pairs == "clip" else 2.0)
    read = _text(t, pairs, (*_joined("text_projection", hidden, shared, "mlp"), scales))
    return Model(name, kind, hidden, vocab, (seen, read), max_context=context(t), task="encode")


def _joined(name: str, hidden: float, shared: float | None, role: str) -> tuple[Block, ...]:
    """The map to the space that both towers meet in; SigLIP's towers meet where they are."""
    return () if shared is None else (Projection(Linear(name, hidden, shared, role=role), once=True),)


def _vision(v: Config, pairs: str, ends: tuple[Block, ...]) -> Stack:
    hidden, patch = v.size("hidden_size", default=768.0), v.size("patch_size", default=32.0)
    inner, clip = v.size("intermediate_size", default=3072.0), pairs == "clip"
    tokens = v.size("num_patches", default=None) or patches(v, v.size("image_size", default=224.0), patch)
    tokens = tokens + 1.0 if clip else tokens
    layer = encoder_layer(hidden, v.size("num_attention_heads", default=12.0), inner, role="vision")
    embed = PatchEmbed(v.size("num_channels", default=3.0), patch, hidden, tokens, float(clip), bias=not clip)
    norm = Norm(hidden, bias=True, name="final_norm")
    return stack(
        "vision",
        [layer] * depth(with_defaults(v, num_hidden_layers=12)),
        before=(embed, Norm(hidden, bias=True, name="pre_norm", residual=False)) if clip else (embed,),
        after=(norm, *(() if clip or not v.flag("vision_use_head", default=True) else _pool(hidden, inner)), *ends),
        stream="vision",
        tokens=tokens,
        patch=patch,
        extra_tokens=float(clip),
    )


def _pool(hidden: float, inner: float) -> tuple[Block, ...]:
    """An attention of one learned query to the tokens of an image, and an MLP on what it gathers."""
    def once(name: str, a: float, b: float) -> Block:
        return Projection(Linear(f"pool.{name}", a, b, True, "vision"), once=True)

    return (Extra("pool.probe", hidden), once("q_proj", hidden, hidden),
            Projection(Linear("pool.kv_proj", hidden, 2.0 * hidden, True, "vision")), once("out_proj", hidden, hidden),
            Norm(hidden, True, "pool.norm"), once("fc1", hidden, inner), once("fc2", inner, hidden))  # fmt: skip


def _text(t: Config, pairs: str, ends: tuple[Block, ...]) -> Stack:
    hidden, vocab, clip = t.size("hidden_size", default=512.0), t.size("vocab_size", default=49408.0), pairs == "clip"
    inner = t.size("intermediate_size", default=2048.0)
    layer = encoder_layer(hidden, t.size("num_attention_heads", default=8.0), inner, causal=clip)
    rows = t.size("max_position_embeddings", default=77.0)
    wide = t.size("projection_size", default=hidden)
    pooled = () if clip else (Projection(Linear("head", hidden, wide, True, "mlp"), once=True),)
    return stack(
        "text",
        [layer] * depth(with_defaults(t, num_hidden_layers=12)),
        before=(Embedding(vocab, hidden), Embedding(rows, hidden, name="position")),
        after=(Norm(hidden, bias=True, name="final_norm"), *pooled, *ends),
        stream="encode",
    )
