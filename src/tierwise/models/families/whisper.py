"""Whisper (arXiv:2212.04356): an audio encoder over 30 s of log-mel frames, and a text decoder, or classes
of a clip.

Shapes after `transformers` (models/whisper): two 1-D convolutions halve the frames; keys have no bias.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tierwise.models.blocks.attention import Attention
from tierwise.models.blocks.common import Extra, Linear, Norm, Projection
from tierwise.models.blocks.conv import Conv
from tierwise.models.blocks.ends import Embedding, Head
from tierwise.models.blocks.mlp import MLP
from tierwise.models.config import Config
from tierwise.models.families._common import depth, stack
from tierwise.models.families._encoder import architecture, labels
from tierwise.models.types import Block, Layer, Model, Stack

TYPES = ("whisper",)


def build(c: Config, name: str) -> Model:
    hidden, vocab = c.size("d_model"), c.size("vocab_size")
    if architecture(c).endswith("AudioClassification"):
        return Model(name, "whisper", hidden, 0.0, (_classifier(c, hidden),), task="encode")
    context = c.size("max_target_positions", default=448.0)
    n, heads, inner = depth(c, "decoder_layers"), c.size("decoder_attention_heads"), c.size("decoder_ffn_dim")
    blocks = (_attention(hidden, heads), _attention(hidden, heads, source="cross", name="cross"))
    tied = c.flag("tie_word_embeddings", default=True)
    text = stack(
        "decoder",
        [_layer("attention+mlp", hidden, *blocks, _mlp(hidden, inner))] * n,
        before=(Embedding(vocab, hidden), Embedding(context, hidden, name="position")),
        after=(Norm(hidden, bias=True, name="final_norm"), Head(hidden, vocab, tied=tied)),
    )
    return Model(name, "whisper", hidden, vocab, (_encoder(c), text), max_context=context)


def _classifier(c: Config, hidden: float) -> Stack:
    """The encoder alone, and classes of the mean of what it leaves."""
    width = c.size("classifier_proj_size", default=256.0)
    heard = _encoder(c)
    ends = (Projection(Linear("projector", hidden, width, True, "mlp")), Head(width, labels(c), bias=True, pooled=True))
    return replace(heard, after=(*heard.after, *ends))


def _encoder(c: Config) -> Stack:
    hidden, frames = c.size("d_model"), c.size("max_source_positions", default=1500.0)
    n, heads, inner = depth(c, "encoder_layers"), c.size("encoder_attention_heads"), c.size("encoder_ffn_dim")
    attn = _attention(hidden, heads, causal=False)
    return stack(
        "audio",
        [_layer("attention+mlp", hidden, attn, _mlp(hidden, inner))] * n,
        before=(
            Conv("conv1", c.size("num_mel_bins", default=80.0), hidden, 3.0, scale=2.0, rank=1, bias=True),
            Conv("conv2", hidden, hidden, 3.0, 2.0, rank=1, bias=True),
            Extra("position", frames * hidden),
        ),
        after=(Norm(hidden, bias=True, name="final_norm"),),
        stream="audio",
        tokens=frames,
    )


def _attention(hidden: float, heads: float, **changes: Any) -> Attention:
    # Queries and values have biases, keys do not.
    return Attention(hidden, heads, heads, hidden / heads, out_bias=True, extra=2.0 * hidden, **changes)


def _mlp(hidden: float, inner: float) -> MLP:
    return MLP(hidden, inner, gated=False, bias=True)


def _layer(name: str, hidden: float, *blocks: Block) -> Layer:
    norm = Norm(hidden, bias=True)
    return Layer(name, tuple(b for block in blocks for b in (norm, block)))
