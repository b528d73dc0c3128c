"""Infinity (arXiv:2412.04431), the next-scale image generator that two cache papers compress."""

from __future__ import annotations

import tierwise as tw
from tierwise.models.blocks.attention import Attention
from tierwise.models.blocks.common import Norm
from tierwise.models.blocks.mlp import MLP
from tierwise.models.types import Layer, Model, Stack
from tierwise.papers.base import scenario
from tierwise.techniques import quantize_kv

# Sides of the token maps of a 1024 × 1024 image (the published code's schedule for square images of 1M pixels).
SIDES = (1, 2, 4, 6, 8, 12, 16, 20, 24, 32, 40, 48, 64)

# Tokens already cached when the last scale runs.
PAST = float(sum(s * s for s in SIDES[:-1]))


def infinity(layers: int, heads: int) -> Model:
    """The transformer's self-attention and MLP; cross-attention to the text, whose cache is a few hundred
    tokens long and outside both papers' counts, is left out."""
    width = heads * 128.0
    blocks = (Norm(width), Attention(width, heads, heads, 128.0), Norm(width), MLP(width, 4.0 * width, gated=False))
    stack = Stack("decoder", (Layer("attention+mlp", blocks),), (0,) * layers)
    return Model(f"infinity-{layers}", "infinity", width, 0.0, (stack,))


def drawing(layers: int, heads: int, images: float) -> tw.Scenario:
    """The model as it stands before its last scale: keys cached in fp32, values in bf16, and every image twice,
    once with its text and once without (classifier-free guidance)."""
    traffic = tw.Batch(prompt=PAST, output=1, batch=2.0 * images)
    stored = quantize_kv(format="fp32", value_format="bf16")
    return scenario(infinity(layers, heads), "1xh200-sxm", traffic, under=[stored])
