"""Falcon-H1 (arXiv:2507.22448): attention and Mamba-2 side by side in every layer, then an MLP.

Shapes after `transformers` (models/falcon_h1).
"""

from __future__ import annotations

from tierwise.models.blocks.common import Norm
from tierwise.models.blocks.mlp import MLP
from tierwise.models.config import Config
from tierwise.models.families._common import attention, decoder, depth
from tierwise.models.families.bamba import mamba2
from tierwise.models.types import Layer, Model

TYPES = ("falcon_h1",)
# Usual fields that no count follows from here (or that others say again).
ASIDE = ("mamba_d_ssm", "mamba_expand", "mamba_norm_before_gate", "mamba_use_mlp", "attn_layer_indices", "layer_types",
         "projectors_bias", "mlp_expansion_factor", "num_logits_to_keep")  # fmt: skip


def build(c: Config, name: str) -> Model:
    hidden, bias = c.size("hidden_size"), c.flag("attention_bias")
    inner = c.size("mamba_d_ssm", default=hidden * c.ratio("mamba_expand", default=2.0))
    mamba = mamba2(c, hidden, inner, normed=c.flag("mamba_rms_norm", default=True))
    mixers = (mamba, attention(c, qkv_bias=bias, out_bias=bias))
    ffn = MLP(hidden, c.size("intermediate_size"), bias=c.flag("mlp_bias"))
    layer = Layer("mamba|attention+mlp", (Norm(hidden), *mixers, Norm(hidden), ffn))
    return decoder(c, name, [layer] * depth(c))
