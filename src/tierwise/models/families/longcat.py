"""LongCat-Flash (arXiv:2509.01322): two attentions and two MLPs a layer, with experts beside them.

Shapes after `transformers` (models/longcat_flash) and the published checkpoint. Some of the experts the router chooses
from pass their input through: they have no weights (`transformers` allots them some) and cost nothing, so a token
visits its share of the others.
"""

from __future__ import annotations

from tierwise.models.blocks.mlp import MLP
from tierwise.models.blocks.moe import MoE
from tierwise.models.config import Config
from tierwise.models.families._common import decoder, depth, mtp_stack, pre_norm
from tierwise.models.families.deepseek import latent_attention
from tierwise.models.types import Layer, Model

TYPES = ("longcat_flash",)
# Usual fields that no count follows from here (or that others say again).
ASIDE = ("num_key_value_heads", "head_dim", "qk_head_dim", "num_experts_per_tok", "intermediate_size",
         "n_shared_experts", "first_k_dense_replace", "mla_scale_q_lora", "mla_scale_kv_lora", "attention_method",
         "zero_expert_type")  # fmt: skip


def build(c: Config, name: str) -> Model:
    hidden, attn = c.size("hidden_size"), latent_attention(c)
    dense = MLP(hidden, c.size("ffn_hidden_size", "intermediate_size"))
    half = pre_norm("half", hidden, attn, dense).blocks
    layer = Layer("mla+moe", (*half, _experts(c, hidden), *half))
    n = int(c.size("mtp_num_layers", "num_nextn_predict_layers", default=0.0, least=0))
    draft = [pre_norm("mla+mlp", hidden, attn, dense)] * n
    other = [mtp_stack(hidden, c.size("vocab_size"), draft)] if n else []
    return decoder(c, name, [layer] * depth(c, "num_layers", "num_hidden_layers"), other=other)


def _experts(c: Config, hidden: float) -> MoE:
    real, none = c.size("n_routed_experts"), c.size("zero_expert_num", default=0.0, least=0)
    chosen = c.size("moe_topk", "num_experts_per_tok") * real / (real + none)
    return MoE(hidden, real, chosen, c.size("expert_ffn_hidden_size", "moe_intermediate_size"), extra=none * hidden)
