"""RWKV-7 (Goose, arXiv:2503.14456).

Shapes after flash-linear-attention (fla/layers/rwkv7.py, fla/models/rwkv7): ranks of the low-rank maps go with the root
of the width where a configuration does not say them; the first layer has no other's values to mix in.
"""

from __future__ import annotations

import math
from dataclasses import replace

from tierwise.models.blocks.common import Norm
from tierwise.models.blocks.rwkv import ChannelMix, DeltaTimeMix
from tierwise.models.config import Config
from tierwise.models.families._common import decoder, depth, pre_norm
from tierwise.models.types import Model

TYPES = ("rwkv7", "rwkv7_fla")
ASIDE = ("norm_first", "norm_bias", "num_heads", "num_attention_heads", "attn_mode", "fuse_norm", "fuse_cross_entropy",
         "fuse_linear_cross_entropy", "use_l2warp", "value_dim")  # fmt: skip


def build(c: Config, name: str) -> Model:
    hidden, width = c.size("hidden_size"), c.size("head_dim", "head_size", default=64.0)
    first = DeltaTimeMix(
        hidden,
        width,
        c.size("decay_low_rank_dim", default=_rank(2.5, hidden, width)),
        c.size("a_low_rank_dim", default=_rank(2.5, hidden, width)),
        c.size("gate_low_rank_dim", default=_rank(5.0, hidden, 64.0)),
        c.size("v_low_rank_dim", default=_rank(1.7, hidden, width)),
        residual=False,
    )
    ratio = c.ratio("hidden_ratio", default=4.0)
    mlp = ChannelMix(hidden, c.size("intermediate_size", default=32.0 * math.ceil(hidden * ratio / 32.0)), gated=False)
    mixes = [first, *[replace(first, residual=True)] * (depth(c) - 1)]
    layers = [pre_norm("rwkv", hidden, mix, mlp, bias=True) for mix in mixes]
    embedded = Norm(hidden, bias=True, name="embedding_norm", residual=False)
    model = decoder(c, name, layers, norm_bias=True, after_embedding=(embedded,))
    return replace(model, max_context=math.inf)  # a recurrence has none


def _rank(factor: float, hidden: float, width: float) -> float:
    """A rank in whole 32s, more for wider heads."""
    return max(32.0, 32.0 * round(factor * math.sqrt(hidden) * width / 64.0 / 32.0))
