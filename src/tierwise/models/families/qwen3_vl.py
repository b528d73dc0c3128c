"""Qwen3-VL: a Qwen3 text model behind an image tower whose merger also feeds early text layers (DeepStack).

Shapes after `transformers` (models/qwen3_vl, qwen3_vl_moe).
"""

from __future__ import annotations

from tierwise.models.blocks.common import Extra, Norm
from tierwise.models.blocks.patch import Merger, PatchEmbed
from tierwise.models.config import Config
from tierwise.models.families._common import decoder, depth
from tierwise.models.families._tower import tower
from tierwise.models.families.qwen import text_layers
from tierwise.models.types import Block, Model, Stack

TYPES = ("qwen3_vl", "qwen3_vl_moe")
# Usual fields that no count follows from here (or that others say again).
ASIDE = ("intermediate_size", "use_qk_norm", "sliding_window")


def build(c: Config, name: str) -> Model:
    text = c.section("text_config")
    vision = [qwen_tower(c.section("vision_config"))] if c.has("vision_config") else []
    return decoder(text, name, text_layers(text), other=vision, top=c)


def qwen_tower(v: Config) -> Stack:
    """Patches over two frames with a learned position grid, full attention, 2×2 merging.

    The model takes any resolution; ``tokens`` is the image its position grid was learned on.
    """
    hidden, patch = v.size("hidden_size"), v.size("patch_size")
    positions = v.size("num_position_embeddings")
    embed = PatchEmbed(
        v.size("in_channels", default=3.0),
        patch,
        hidden,
        positions,
        frames=v.size("temporal_patch_size", default=2.0),
    )
    merge = v.size("spatial_merge_size", default=2.0)
    merger = Merger(hidden, merge, v.size("out_hidden_size"))
    after: list[Block] = [Norm(hidden, True, "merger_norm"), merger]
    for _ in v.items("deepstack_visual_indexes", default=[], most=1000):
        # These norms act on merged patches, which are wider.
        wider = Extra("deepstack_norm", 2.0 * hidden * (merge**2 - 1.0))
        after += [Norm(hidden, True, "deepstack_norm", residual=False), wider, merger]
    return tower(
        hidden,
        v.size("num_heads"),
        v.size("intermediate_size"),
        depth(v, "depth"),
        before=[embed],
        after=after,
        tokens=positions,
        patch=patch,
    )
