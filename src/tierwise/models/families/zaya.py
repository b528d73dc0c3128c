"""ZAYA: attention over convolved queries and keys of half the width, and experts behind a router that is an MLP.

Shapes after `transformers` (models/zaya). A token may skip the experts (one more output of the router); here it goes
through one. Values are two projections, of this token and of the one before.
"""

from __future__ import annotations

from tierwise.models.blocks.common import Linear, Norm, Projection
from tierwise.models.blocks.head_conv import HeadConv
from tierwise.models.blocks.moe import MoE
from tierwise.models.config import Config
from tierwise.models.families._common import attention, decoder, depth
from tierwise.models.types import Layer, Model

TYPES = ("zaya",)


def build(c: Config, name: str) -> Model:
    attn = attention(c)
    hidden, experts = attn.hidden, c.size("num_experts")
    width = c.size("router_hidden_size")
    # A scale and a shift of the stream and of what is added to it, behind either block; one of the router's last state.
    scales = 2.0 * 4.0 * hidden + attn.kv_heads + width
    conv = HeadConv(
        hidden, attn.heads + attn.kv_heads, attn.head_dim, c.size("cca_time0", default=2.0),
        c.size("cca_time1", default=2.0), extra=scales,
    )  # fmt: skip
    router = (
        Projection(Linear("router.down", hidden, width, True, "router")),
        Norm(width, name="router.norm", residual=False),
        Projection(Linear("router.fc1", width, width, True, "router")),
        Projection(Linear("router.fc2", width, width, True, "router")),
        Projection(Linear("router.out", width, experts + 1.0, role="router")),
    )
    moe = MoE(hidden, experts, c.size("num_experts_per_tok"), c.size("moe_intermediate_size"), router=False)
    layer = Layer("attention+moe", (Norm(hidden), attn, conv, Norm(hidden), *router, moe))
    return decoder(c, name, [layer] * depth(c), tied=True)
