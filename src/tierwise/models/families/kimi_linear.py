"""Kimi Linear (arXiv:2510.26692) and Ling 2.5: delta attention with a decay a channel, latent attention in between.

Shapes after `transformers` (models/kimi_linear, bailing_hybrid). Latent layers are those ``linear_attn_config`` lists
(counting from one), else every fourth after the first (Kimi), or the last of each ``layer_group_size`` (Ling).
"""

from __future__ import annotations

from tierwise.models.blocks.delta_net import GatedDeltaNet
from tierwise.models.blocks.moe import MoE
from tierwise.models.config import Config
from tierwise.models.families._common import decoder, depth, layer_types, pre_norm
from tierwise.models.families.deepseek import feed_forward, latent_attention, mtp
from tierwise.models.types import Layer, Model

TYPES = ("kimi_linear", "bailing_hybrid")
# Usual fields that no count follows from here (or that others say again).
ASIDE = ("num_key_value_heads", "qk_head_dim", "kda_layers", "moe_renormalize", "kda_safe_gate", "kda_lower_bound",
         "num_expert_group", "use_grouped_topk", "moe_router_activation_func", "mla_use_nope", "head_dim")  # fmt: skip


def build(c: Config, name: str) -> Model:
    c = _usual(c)
    layers = [_layer(c, kind, i) for i, kind in enumerate(_kinds(c, depth(c)))]
    return decoder(c, name, layers, other=mtp(c, layers))


def _usual(c: Config) -> Config:
    """With the names that DeepSeek's fields have."""
    return c.but(
        n_routed_experts=c.size("num_experts", "num_local_experts", "n_routed_experts"),
        num_experts_per_tok=c.size("num_experts_per_token", "num_experts_per_tok"),
        n_shared_experts=c.size("num_shared_experts", "n_shared_experts", default=0.0, least=0),
        first_k_dense_replace=c.size("first_k_dense_replace", default=1.0, least=0),
    )


def _kinds(c: Config, n: int) -> list[str]:
    latent = c.section("linear_attn_config").items("full_attn_layers", default=None)
    if latent:
        return ["full_attention" if i + 1 in latent else "linear_attention" for i in range(n)]
    group = int(c.size("layer_group_size", default=0.0, least=0))
    spaced = [(i + 1) % group == 0 if group else i > 0 and i % 4 == 0 for i in range(n)]
    return layer_types(c, n, ["full_attention" if full else "linear_attention" for full in spaced])


def _layer(c: Config, kind: str, index: int) -> Layer:
    hidden, ffn = c.size("hidden_size"), feed_forward(c, index)
    mixer = latent_attention(c) if kind == "full_attention" else _delta(c, hidden)
    label = ("mla" if kind == "full_attention" else "delta") + ("+moe" if isinstance(ffn, MoE) else "+mlp")
    return pre_norm(label, hidden, mixer, ffn)


def _delta(c: Config, hidden: float) -> GatedDeltaNet:
    """Kimi's gates come through a bottleneck as wide as a head, Ling's do not."""
    own = c.section("linear_attn_config")
    heads = own.size("num_heads", default=c.size("linear_num_heads", "num_attention_heads"))
    d = own.size("head_dim", default=c.size("linear_head_dim", "head_dim", default=128.0))
    taps = own.size("short_conv_kernel_size",
                    default=c.size("linear_conv_kernel_dim", "short_conv_kernel_size", default=4.0))  # fmt: skip
    narrow = c.text("model_type") == "kimi_linear"
    return GatedDeltaNet(hidden, heads, heads, d, d, taps, by_channel=True, rank=d if narrow else 0.0)
