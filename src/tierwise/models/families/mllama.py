"""Llama 3.2 Vision: a Llama with layers of cross-attention to an image's tokens in between.

Shapes after `transformers` (models/mllama). Those layers cache nothing of the text.
"""

from __future__ import annotations

from tierwise.models.blocks.common import Extra
from tierwise.models.config import Config
from tierwise.models.families._common import attention, decoder, depth, mlp, pre_norm
from tierwise.models.families._towers import towers
from tierwise.models.types import Layer, Model

TYPES = ("mllama", "mllama_text_model")


def build(c: Config, name: str) -> Model:
    text = c.section("text_config") if c.has("text_config") else c
    hidden = text.size("hidden_size")
    sensed, notes = towers(c, hidden) if text is not c else ([], [])
    own = pre_norm("attention+mlp", hidden, attention(text), mlp(text))
    cross = pre_norm("cross+mlp", hidden, attention(text, source="cross", qk_norm="head", name="cross"), mlp(text))
    cross = Layer(cross.name, (*cross.blocks, Extra("gates", 2.0)))
    crossing = text.items("cross_attention_layers", default=[3, 8, 13, 18, 23, 28, 33, 38])
    layers = [cross if i in crossing else own for i in range(depth(text))]
    image = Extra("image_token_rows", 8.0 * hidden, "embed")
    return decoder(text, name, layers, other=sensed, top=c, notes=notes, after_embedding=[image])
