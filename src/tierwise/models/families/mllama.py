"""Llama 3.2 Vision: a Llama with layers of cross-attention to an image's tokens in between.

Shapes after `transformers` (models/mllama). Those layers cache nothing of the text.
"""

from __future__ import annotations

from tierwise.models.blocks.common import Extra
from tierwise.models.config import Config
from tierwise.models.families._common import attention, decoder, depth, mlp, pre_norm
from tierwise.models.families._encoder import patches
from tierwise.models.families._towers import towers
from tierwise.models.types import Layer, Model

TYPES = ("mllama", "mllama_text_model")


def build(c: Config, name: str) -> Model:
    text = c.section("text_config") if c.has("text_config") else c
    hidden = text.size("hidden_size")
    sensed, notes = towers(_whole_tower(c), hidden) if text is not c else ([], [])
    own = pre_norm("attention+mlp", hidden, attention(text), mlp(text))
    cross = pre_norm("cross+mlp", hidden, attention(text, source="cross", qk_norm="head", name="cross"), mlp(text))
    cross = Layer(cross.name, (*cross.blocks, Extra("gates", 2.0)))
    crossing = text.items("cross_attention_layers", default=[3, 8, 13, 18, 23, 28, 33, 38])
    layers = [cross if i in crossing else own for i in range(depth(text))]
    ends = [Extra("image_token_rows", 8.0 * hidden, "embed")]
    if sensed:
        ends.append(Extra("tile_positions", _tile_positions(c.section("vision_config")), "vision"))
    return decoder(text, name, layers, other=sensed, top=c, notes=notes, after_embedding=ends)


def _tile_positions(v: Config) -> float:
    """Positions of the patches of every tile, for every shape of an image in tiles and for none."""
    shapes = len(v.items("supported_aspect_ratios", default=[])) or 8
    own = patches(v, v.size("image_size"), v.size("patch_size")) + 1.0
    return (shapes + 1.0) * v.size("max_num_tiles", default=4.0) * own * v.size("hidden_size")


def _whole_tower(c: Config) -> Config:
    """With the layers over all tiles counted to those over one; what they give out is joined and projected."""
    v = c.section("vision_config")
    if not v.data:
        return c
    n = v.size("num_hidden_layers") + v.size("num_global_layers", default=8.0, least=0)
    return c.but(vision_config={**v.data, "num_hidden_layers": n, "intermediate_layers_indices": None})
