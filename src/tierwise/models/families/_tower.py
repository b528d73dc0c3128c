"""Image towers in front of language models: a stack of bidirectional layers over patches."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tierwise.models.blocks.attention import Attention
from tierwise.models.blocks.common import Extra
from tierwise.models.blocks.mlp import MLP
from tierwise.models.config import Config
from tierwise.models.families._common import pre_norm, sandwich, stack
from tierwise.models.families._encoder import patches
from tierwise.models.types import Block, Layer, Stack


def tower(
    hidden: float,
    heads: float,
    inner: float,
    layers: int,
    *,
    before: Iterable[Block],
    after: Iterable[Block],
    tokens: float,
    patch: float,
    gated: bool = False,
    bias: bool = True,
    qk_norm: str = "",
    four_norms: bool = False,
    scales: float = 0.0,
    head_dim: float | None = None,
    kv_heads: float | None = None,
    **more: Any,
) -> Stack:
    """A vision transformer.

    Args:
        before, after: patch embedding; norms, mergers and projections to the language model's width.
        tokens: patches of an image of the model's own size; ``patch`` pixels a side each.
        bias: of attention, MLP and norms alike.
        four_norms: norms before and after each block, without shift.
        scales: further parameters of each layer.
        head_dim: width of a head where it is not its share of ``hidden``; ``kv_heads``: where they are not ``heads``.
    """
    attn = Attention(
        hidden,
        heads,
        heads if kv_heads is None else kv_heads,
        hidden / heads if head_dim is None else head_dim,
        causal=False,
        qkv_bias=bias,
        out_bias=bias,
        qk_norm=qk_norm,
        role="vision",
        name="vision.attn",
    )
    ffn = MLP(hidden, inner, gated, bias, "vision", "vision.mlp")
    layer = sandwich("vision", hidden, attn, ffn) if four_norms else pre_norm("vision", hidden, attn, ffn, bias=bias)
    if scales:
        layer = Layer("vision", (*layer.blocks, Extra("layer_scale", scales)))
    return stack(
        "vision",
        [layer] * layers,
        before=tuple(before),
        after=tuple(after),
        stream="vision",
        tokens=tokens,
        patch=patch,
        **more,
    )


def grid(v: Config) -> tuple[float, float, float]:
    """(pixels along a side of the image, of a patch, patches of an image) of a tower's configuration."""
    side, patch = v.size("image_size"), v.size("patch_size")
    return side, patch, patches(v, side, patch)
