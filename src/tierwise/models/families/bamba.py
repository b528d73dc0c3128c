"""Bamba: Mamba-2 layers with an MLP each, and attention in a few of them.

Shapes after `transformers` (models/bamba); ``attn_layer_indices`` says which layers attend.
"""

from __future__ import annotations

from tierwise.models.blocks.mlp import MLP
from tierwise.models.blocks.ssm import Mamba2
from tierwise.models.config import Config
from tierwise.models.families._common import attention, decoder, depth, pre_norm
from tierwise.models.types import Model

TYPES = ("bamba",)


def build(c: Config, name: str) -> Model:
    hidden = c.size("hidden_size")
    mlp = MLP(hidden, c.size("intermediate_size"), bias=c.flag("mlp_bias"))
    attends = c.items("attn_layer_indices", default=[])
    bias = c.flag("attention_bias")
    attn = pre_norm("attention+mlp", hidden, attention(c, qkv_bias=bias, out_bias=bias), mlp)
    mamba = pre_norm("mamba+mlp", hidden, mamba2(c, hidden, hidden * c.size("mamba_expand", default=2.0)), mlp)
    return decoder(c, name, [attn if i in attends else mamba for i in range(depth(c))])


def mamba2(c: Config, hidden: float, inner: float, normed: bool = True) -> Mamba2:
    """A Mamba-2 block by the fields that Bamba and those after it have.

    Args:
        inner: channels of the block. ``normed``: the gate is followed by a norm.
    """
    heads = c.size("mamba_n_heads", default=128.0)
    width = c.raw("mamba_d_head", default="auto")
    return Mamba2(
        hidden,
        heads,
        inner / heads if width == "auto" else c.size("mamba_d_head"),
        c.size("mamba_d_state", default=256.0),
        c.size("mamba_n_groups", default=1.0),
        c.size("mamba_d_conv", default=4.0),
        c.size("mamba_chunk_size", default=256.0),
        conv_bias=c.flag("mamba_conv_bias", default=True),
        bias=c.flag("mamba_proj_bias"),
        normed=normed,
    )
