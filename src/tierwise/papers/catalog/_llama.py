"""The Llamas that GaLore and those after it pretrain."""

from __future__ import annotations

from functools import cache

from tierwise.models.blocks.attention import Attention
from tierwise.models.blocks.ends import Embedding, Head
from tierwise.models.blocks.mlp import MLP
from tierwise.models.family import pre_norm, stack
from tierwise.models.types import Model

VOCAB = 32000.0
# Layers, width, inner width, heads (jiaweizzhao/GaLore, configs/llama_60m.json and so on).
SIZES = {"60M": (8, 512.0, 1376.0, 8.0), "130M": (12, 768.0, 2048.0, 12.0), "350M": (24, 1024.0, 2736.0, 16.0),
         "1B": (24, 2048.0, 5461.0, 32.0)}  # fmt: skip


@cache
def llama(size: str) -> Model:
    """One of :data:`SIZES`, embedding and head apart."""
    depth, width, inner, heads = SIZES[size]
    layer = pre_norm("layer", width, Attention(width, heads, heads, width / heads), MLP(width, inner))
    ends = {"before": (Embedding(VOCAB, width),), "after": (Head(width, VOCAB),)}
    return Model(f"llama-{size}", "llama", width, VOCAB, (stack("decoder", [layer] * depth, **ends),))
