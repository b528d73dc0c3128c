"""Jamba (arXiv:2403.19887): one attention layer among several Mamba layers, experts in every other MLP.

Shapes after `transformers` (models/jamba): Δ, B and C are normed; all layers have an MLP or experts.
"""

from __future__ import annotations

from tierwise.models.blocks.mlp import MLP
from tierwise.models.blocks.moe import MoE
from tierwise.models.config import Config
from tierwise.models.families._common import attention, decoder, depth, pre_norm
from tierwise.models.families.mamba import selective
from tierwise.models.types import Model

TYPES = ("jamba",)


def build(c: Config, name: str) -> Model:
    hidden, inner = c.size("hidden_size"), c.size("intermediate_size")
    experts, top_k = c.size("num_experts", default=16.0), c.size("num_experts_per_tok", default=2.0)
    attn_every, attn_at = (
        int(c.size("attn_layer_period", default=8.0)),
        c.size("attn_layer_offset", default=4.0, least=0),
    )
    moe_every, moe_at = (
        int(c.size("expert_layer_period", default=2.0)),
        c.size("expert_layer_offset", default=1.0, least=0),
    )
    layers = []
    for i in range(depth(c)):
        mixes = i % attn_every != attn_at
        routes = experts > 1 and i % moe_every == moe_at
        mixer = selective(c, inner_norm=True) if mixes else attention(c)
        ffn = MoE(hidden, experts, top_k, inner) if routes else MLP(hidden, inner)
        label = ("mamba+" if mixes else "attention+") + ("moe" if routes else "mlp")
        layers.append(pre_norm(label, hidden, mixer, ffn))
    return decoder(c, name, layers)
