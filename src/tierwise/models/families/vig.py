"""ViG (arXiv:2405.18425): image classifiers of bidirectional gated linear attention.

Shapes from the published configurations and model file: a two-convolution patch embedding, a depthwise 3×3
convolution before the projections, one decay gate per direction over shared queries, keys and values, keys of
half the width, a gated MLP; inference runs the recurrence token by token. Not every switch of the published
code is modelled.
"""

from __future__ import annotations

import math

from tierwise.models.blocks.common import Extra, Norm
from tierwise.models.blocks.conv import Conv
from tierwise.models.blocks.ends import Head
from tierwise.models.blocks.linear_attention import LinearAttention
from tierwise.models.blocks.mlp import MLP
from tierwise.models.blocks.patch import Mean
from tierwise.models.config import Config
from tierwise.models.families._common import depth, pre_norm, stack
from tierwise.models.families._encoder import labels, patches, side
from tierwise.models.types import Model

TYPES = ("vig",)

_DECAY_RANK = 16.0  # width of the decay gate's bottleneck in the published model file


def build(c: Config, name: str) -> Model:
    hidden, patch = c.size("hidden_size"), side(c, "patch_size", 16.0)
    heads = c.size("num_attention_heads")
    tokens = patches(c, side(c, "image_size", 224.0), patch)
    value = hidden * c.ratio("expand_v", default=1.0) / heads
    attn = LinearAttention(
        hidden,
        heads,
        hidden * c.ratio("expand_k", default=0.5) / heads,
        value,
        decay_rank=_DECAY_RANK,
        gate_bias=True,
        norms=2.0 * value,
        directions=2,
        by_token=True,
        local=3.0,
        role="vision",
    )
    # As many parameters as a plain MLP of that ratio, rounded up to a multiple of 256.
    inner = 256.0 * math.ceil(hidden * c.ratio("mlp_ratio", default=4.0) * 2.0 / 3.0 / 256.0)
    mlp = MLP(hidden, inner, role="vision")
    half, stride = hidden / 2.0, patch / 2.0
    tower = stack(
        "vision",
        [pre_norm("linear_attention+mlp", hidden, attn, mlp)] * depth(c),
        before=(
            Conv("patch1", 3.0, half, stride + 1.0, stride, scale=2.0, bias=True, role="vision"),
            Extra("patch1_norm", 2.0 * half),
            Conv("patch2", half, hidden, 3.0, 2.0, bias=True, role="vision"),
            Extra("patch2_norm", 2.0 * hidden),
            Extra("position", tokens * hidden),
        ),
        after=(
            Norm(hidden, name="final_norm"),
            Mean(hidden),
            Head(hidden, labels(c), bias=True, pooled=True),
        ),
        stream="vision",
        tokens=tokens,
        patch=patch,
    )
    return Model(name, "vig", hidden, 0.0, (tower,), task="classify")
