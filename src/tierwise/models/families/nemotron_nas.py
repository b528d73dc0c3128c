"""Nemotron-NAS (Llama-Nemotron Super, Ultra): a Llama whose every layer was searched for.

A layer's attention may be missing or one linear map; its MLP may be missing, a linear map, or of any width:
``2/3 × ffn_mult × hidden`` rounded up to a multiple of 256 (configuration fields ``block_configs``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tierwise.core.errors import BadField
from tierwise.models.blocks.attention import Attention
from tierwise.models.blocks.common import Linear, Norm, Projection
from tierwise.models.blocks.mlp import MLP
from tierwise.models.config import Config
from tierwise.models.families._common import decoder, depth
from tierwise.models.types import Block, Layer, Model

TYPES = ("nemotron-nas",)


def build(c: Config, name: str) -> Model:
    n, blocks = depth(c), c.items("block_configs")
    if len(blocks) != n:
        raise BadField(c.where, "block_configs", f"{len(blocks)} entries", f"one for each of {n} layers")
    return decoder(c, name, [_layer(c, f"block_configs.{i}", b) for i, b in enumerate(blocks)])


def _layer(c: Config, path: str, data: Any) -> Layer:
    if not isinstance(data, Mapping):
        raise BadField(c.where, path, data, "a mapping")
    block, hidden = Config(data, c.where, path + "."), c.size("hidden_size")
    parts: list[Block] = []
    names = []
    for label, part in (("attention", _attention(c, block)), ("mlp", _mlp(block, hidden))):
        if part is not None:
            parts += [Norm(hidden), part]
            names.append(label)
    return Layer("+".join(names) or "empty", tuple(parts))


def _attention(c: Config, block: Config) -> Block | None:
    a, hidden, h = block.section("attention"), c.size("hidden_size"), c.size("num_attention_heads")
    if a.flag("no_op"):
        return None
    if a.flag("replace_with_linear"):
        return Projection(Linear("attn.linear", hidden, hidden, role="attn"))
    window = a.size("window_length", default=None)
    bias = c.flag("attention_bias")
    return Attention(hidden, h, h / a.size("n_heads_in_group"), hidden / h, window=window, qkv_bias=bias, out_bias=bias)


def _mlp(block: Config, hidden: float) -> Block | None:
    f = block.section("ffn")
    if f.flag("no_op"):
        return None
    if f.flag("replace_with_linear"):
        return Projection(Linear("mlp.linear", hidden, hidden, role="mlp"))
    inner = float(int(2.0 * f.ratio("ffn_mult") * hidden / 3.0))
    return MLP(hidden, math.ceil(inner / 256.0) * 256.0)
