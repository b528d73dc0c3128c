"""Zamba (arXiv:2405.16712) and Zamba2 (arXiv:2411.15242): Mamba layers, and transformer blocks that come back again
and again.

Shapes after `transformers` (models/zamba, models/zamba2): a hybrid layer is a shared block, a map of its own behind it,
and a Mamba layer (Mamba-2 in Zamba2). The block reads the stream beside the embedding, twice the width; in Zamba2 there
are several, and each return has adapters of its own. Zamba's heads divide the maps to Δ, B and C: as large as whole.
"""

from __future__ import annotations

from tierwise.core.errors import BadField
from tierwise.models.blocks.attention import Attention
from tierwise.models.blocks.common import Linear, Norm, Projection
from tierwise.models.blocks.mlp import MLP
from tierwise.models.blocks.ssm import Mamba2
from tierwise.models.config import Config
from tierwise.models.families._common import decoder, depth, pre_norm
from tierwise.models.families.mamba import selective
from tierwise.models.types import Block, Layer, Model

TYPES = ("zamba2", "zamba")
# Follow from other fields, as its configuration class computes them.
ASIDE = ("attention_head_dim", "attention_hidden_size", "hybrid_layer_ids", "kv_channels", "mamba_headdim",
         "num_query_groups", "layers_block_type", "layer_types", "num_key_value_heads", "head_dim",
         "attn_layer_period", "attn_layer_offset")  # fmt: skip

# `transformers`' class default of Zamba2: 7 periods of 5 Mamba layers and a hybrid one, then thinning out.
_USUAL = [kind for before in (6, 5, 5, 5, 5, 5, 5, 4, 3) for kind in (*["mamba"] * before, "hybrid")] + ["mamba"] * 2


def build(c: Config, name: str) -> Model:
    n = depth(c)
    first = c.text("model_type") == "zamba"
    kinds = c.items("layers_block_type", "layer_types", default=None) or (_period(c, n) if first else _USUAL)
    if len(kinds) < n or not all(isinstance(k, str) for k in kinds):
        raise BadField(c.where, c.path + "layers_block_type", kinds, f"{n} names")
    hybrids = sum(k == "hybrid" for k in kinds[:n])
    shared = _shared(c, hybrids / min(c.size("num_mem_blocks", default=1.0), max(hybrids, 1)))
    mamba = pre_norm("mamba", c.size("hidden_size"), selective(c) if first else _mamba(c))
    own = Layer("hybrid", (*(() if first else _adapters(c)), _behind(c), *mamba.blocks))
    layers: list[Layer] = []
    for kind in kinds[:n]:
        layers += [shared, own] if kind == "hybrid" else [mamba]
    return decoder(c, name, layers, tied=True)


def _period(c: Config, n: int) -> list[str]:
    """Zamba's: the third layer, then one at an offset of every period."""
    period = int(c.size("attn_layer_period", default=6.0))
    at = c.size("attn_layer_offset", default=4.0, least=0)
    return ["mamba", "mamba", "hybrid", *("hybrid" if i % period == at else "mamba" for i in range(n - 3))]


def _shared(c: Config, copies: float) -> Layer:
    """One of the blocks that hybrid layers take in turn: attention over stream and embedding, and an MLP."""
    hidden, heads = c.size("hidden_size"), c.size("num_attention_heads")
    kv, width = c.size("num_key_value_heads", default=heads), 2.0 * hidden / heads
    bias = c.flag("add_bias_linear")
    blocks: list[Block] = [
        Norm(2.0 * hidden),
        # Queries of the embedding, beside those of the stream.
        Projection(Linear("q_proj.embedding", hidden, heads * width, role="attn", split="out")),
        Attention(hidden, heads, kv, width, kv_hidden=2.0 * hidden),
        Norm(hidden),
        MLP(hidden, c.size("intermediate_size", default=4.0 * hidden), bias=bias),
    ]
    return Layer("shared", tuple(blocks), copies)


def _behind(c: Config) -> Block:
    """The map between the shared block and the Mamba layer."""
    return Projection(Linear("linear", c.size("hidden_size"), c.size("hidden_size"), role="mlp"))


def _adapters(c: Config) -> list[Block]:
    """What a hybrid layer of Zamba2 has of its own beside the shared block."""
    hidden, rank = c.size("hidden_size"), c.size("adapter_rank", default=128.0)
    inner = c.size("intermediate_size", default=4.0 * hidden)
    ends = [("mlp", hidden, 2.0 * inner)]
    if c.flag("use_shared_attention_adapter"):
        ends += [(n, 2.0 * hidden, 2.0 * hidden) for n in ("q", "k", "v")]
    out: list[Block] = []
    for name, wide, back in ends:
        role = "mlp" if name == "mlp" else "attn"
        out.append(Projection(Linear(f"{name}_adapter.down", wide, rank, role=role)))
        out.append(Projection(Linear(f"{name}_adapter.up", rank, back, role=role)))
    return out


def _mamba(c: Config) -> Mamba2:
    hidden, heads = c.size("hidden_size"), c.size("n_mamba_heads", default=8.0)
    return Mamba2(
        hidden,
        heads,
        hidden * c.size("mamba_expand", default=2.0) / heads,
        c.size("mamba_d_state", default=64.0),
        c.size("mamba_ngroups", default=1.0),
        c.size("mamba_d_conv", default=4.0),
        c.size("chunk_size", default=256.0),
        bias=c.flag("add_bias_linear"),
    )
