"""xLSTM (arXiv:2405.04517, arXiv:2503.13427): layers of an mLSTM, a matrix state a head with gates on what it takes in
and forgets, and a gated MLP.

Shapes after `transformers` (models/xlstm). The normalizer beside the state, a column of it, is left out.
"""

from __future__ import annotations

from tierwise.core.errors import BadField
from tierwise.core.numerics import fmt
from tierwise.models.blocks.common import Linear, Norm, Projection
from tierwise.models.blocks.linear_attention import LinearAttention
from tierwise.models.blocks.mlp import MLP
from tierwise.models.config import Config
from tierwise.models.families._common import decoder, depth
from tierwise.models.types import Layer, Model

TYPES = ("xlstm",)
# Which kernel computes it, and in which mode.
ASIDE = ("chunkwise_kernel", "sequence_kernel", "step_kernel", "mode", "weight_mode", "add_out_norm",
         "max_inference_chunksize", "autocast_kernel_dtype", "return_last_states", "embedding_dim",
         "num_blocks")  # fmt: skip


def build(c: Config, name: str) -> Model:
    hidden, heads = c.size("hidden_size", "embedding_dim"), c.size("num_heads", default=8.0)
    if c.flag("use_bias") or c.text("weight_mode", default="single") != "single":
        raise BadField(c.where, "use_bias", True, "false, and weight_mode single: as published")
    key, value = (hidden * c.ratio(f"{n}_dim_factor", default=f) / heads for n, f in (("qk", 0.5), ("v", 1.0)))
    if key != int(key) or value != int(value):
        raise BadField(c.where, "num_heads", heads, f"a divisor of the widths of keys and values ({hidden:.0f} "
                       "times qk_dim_factor, v_dim_factor)")  # fmt: skip
    cell = LinearAttention(hidden, heads, key, value, norms=heads * value, chunk=c.size("chunk_size", default=64.0),
                           state_format=fmt(c.text("inference_state_dtype", default="float32")))  # fmt: skip
    gates = Projection(Linear("input_forget_gates", hidden, 2.0 * heads, True))
    whole = c.size("ffn_round_up_to_multiple_of", default=64.0)
    inner = -(-(hidden * c.ratio("ffn_proj_factor", default=2.667)) // whole) * whole
    layer = Layer("mlstm+mlp", (Norm(hidden), gates, cell, Norm(hidden), MLP(hidden, inner)))
    # The class shares no weights, whatever the field says.
    return decoder(c.but(tie_word_embeddings=False), name, [layer] * depth(c, "num_hidden_layers", "num_blocks"))
