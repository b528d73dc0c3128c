"""MiniMax-Text-01 (arXiv:2501.08313): seven layers of Lightning Attention for each one of softmax attention.

Shapes after `transformers` (models/minimax): Lightning Attention has a fixed decay a head, a norm over all
heads' outputs and an output gate; every layer has experts. The published remote code's fields are read too.
"""

from __future__ import annotations

from tierwise.core.errors import BadField
from tierwise.models.blocks.linear_attention import LinearAttention
from tierwise.models.blocks.moe import MoE
from tierwise.models.config import Config
from tierwise.models.families._common import attention, decoder, depth, every, heads, layer_types, pre_norm
from tierwise.models.types import Layer, Model

TYPES = ("minimax", "minimax_text_01", "minimax_m1")


def build(c: Config, name: str) -> Model:
    return decoder(c, name, [_layer(c, kind) for kind in _kinds(c, depth(c))])


def _kinds(c: Config, n: int) -> list[str]:
    """``attn_type_list`` (0: linear, 1: softmax) of the remote code, else ``layer_types``."""
    if not c.has("attn_type_list"):
        return layer_types(c, n, every(n, 2, "linear_attention", "full_attention"))
    flags = c.items("attn_type_list")
    if len(flags) < n or any(f not in (0, 1) for f in flags):
        raise BadField(c.where, c.path + "attn_type_list", flags, f"{n} times 0 (linear) or 1 (softmax)")
    return ["full_attention" if f else "linear_attention" for f in flags[:n]]


def _layer(c: Config, kind: str) -> Layer:
    h, _, d = heads(c)
    hidden = c.size("hidden_size")
    experts = MoE(hidden, c.size("num_local_experts"), c.size("num_experts_per_tok"), c.size("intermediate_size"))
    if kind != "linear_attention":
        return pre_norm("attention+moe", hidden, attention(c), experts)
    linear = LinearAttention(hidden, h, d, d, norms=h * d, chunk=c.size("block_size", default=256.0))
    return pre_norm("lightning+moe", hidden, linear, experts)
