"""RecurrentGemma (arXiv:2404.07839): Griffin's blocks, two gated linear recurrences to one layer of local attention.

Shapes after `transformers` (models/recurrent_gemma): ``intermediate_size`` counts both halves of the gated MLP.
"""

from __future__ import annotations

from tierwise.core.errors import BadField
from tierwise.models.blocks.mlp import MLP
from tierwise.models.blocks.rglru import RGLRU
from tierwise.models.config import Config
from tierwise.models.families._common import attention, decoder, depth, pre_norm
from tierwise.models.types import Model

TYPES = ("recurrent_gemma",)
ASIDE = ("w_init_variance_scale", "final_w_init_variance_scale")


def build(c: Config, name: str) -> Model:
    hidden, heads = c.size("hidden_size"), c.size("num_attention_heads")
    mlp = MLP(hidden, c.size("intermediate_size") // 2.0, bias=True)
    attn = attention(c, window=c.size("attention_window_size", default=2048.0), qkv_bias=c.flag("attention_bias"),
                     out_bias=True)  # fmt: skip
    lru = RGLRU(hidden, c.size("lru_width", default=hidden), heads, c.size("conv1d_width", default=4.0))
    kinds = {"attention": pre_norm("attention+mlp", hidden, attn, mlp),
             "recurrent": pre_norm("recurrent+mlp", hidden, lru, mlp)}  # fmt: skip
    pattern = c.items("block_types", default=["recurrent", "recurrent", "attention"])
    if not pattern or any(k not in ("attention", "recurrent") for k in pattern):
        raise BadField(c.where, c.path + "block_types", pattern, "names of attention and recurrent")
    return decoder(c, name, [kinds[pattern[i % len(pattern)]] for i in range(depth(c))], tied=True)
