"""The first Qwen: its ``intermediate_size`` is that of both input projections of an MLP together.

Shapes after the code published with Qwen/Qwen-7B: biases on queries, keys and values only.
"""

from __future__ import annotations

from tierwise.models.blocks.mlp import MLP
from tierwise.models.config import Config
from tierwise.models.families._common import attention, decoder, depth, pre_norm
from tierwise.models.types import Model

TYPES = ("qwen",)
# Usual fields that no count follows from here (or that others say again).
ASIDE = ("no_bias", "use_dynamic_ntk", "use_logn_attn", "kv_channels", "softmax_in_fp32", "use_cache_quantization",
         "use_cache_kernel", "onnx_safe")  # fmt: skip


def build(c: Config, name: str) -> Model:
    attn = attention(c, qkv_bias=True)
    ffn = MLP(attn.hidden, c.size("intermediate_size") / 2.0)
    return decoder(c, name, [pre_norm("decoder", attn.hidden, attn, ffn)] * depth(c))
