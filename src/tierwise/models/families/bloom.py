"""BLOOM: linear position biases, a norm behind the embedding, biases everywhere, tied head.

Shapes after `transformers` (models/bloom).
"""

from __future__ import annotations

from tierwise.models.blocks.common import Norm
from tierwise.models.blocks.mlp import MLP
from tierwise.models.config import Config
from tierwise.models.families._common import attention, decoder, depth, pre_norm
from tierwise.models.types import Model

TYPES = ("bloom",)


def build(c: Config, name: str) -> Model:
    hidden = c.size("hidden_size", "n_embed", "n_embd")
    attn = attention(c.but(hidden_size=hidden), qkv_bias=True, out_bias=True)
    layer = pre_norm("decoder", hidden, attn, MLP(hidden, 4.0 * hidden, gated=False, bias=True), bias=True)
    norm = Norm(hidden, bias=True, name="embed_norm", residual=False)
    wide = c.but(hidden_size=hidden)
    return decoder(wide, name, [layer] * depth(c), tied=True, norm_bias=True, after_embedding=[norm])
