"""Qwen 1.5, 2, 2.5 and 3: dense and mixture-of-experts decoders.

Shapes after `transformers` (models/qwen2, qwen3, qwen2_moe, qwen3_moe): Qwen2 has biases on queries, keys and
values; Qwen3 drops them and normalises queries and keys per head. MiMo-7B is a Qwen2
with a prediction module.
"""

from __future__ import annotations

from typing import Any

from tierwise.models.blocks.mlp import MLP
from tierwise.models.blocks.moe import MoE
from tierwise.models.config import Config
from tierwise.models.families._common import attention, decoder, depth, layer_types, mlp, modules, mtp_stack, pre_norm
from tierwise.models.types import Layer, Model, Stack

TYPES = ("qwen2", "qwen3", "qwen2_moe", "qwen3_moe", "mimo")
# Usual fields that no count follows from here (or that others say again).
ASIDE = ("intermediate_size", "use_qk_norm", "sliding_window")


def build(c: Config, name: str) -> Model:
    layers = text_layers(c)
    return decoder(c, name, layers, other=_mtp(c, layers))


def text_layers(c: Config) -> list[Layer]:
    """One layer per depth; those ``mlp_only_layers`` or ``decoder_sparse_step`` say so are dense."""
    n = depth(c)
    third = "qwen3" in c.text("model_type", default="")
    bias = c.flag("attention_bias") if third else c.flag("qkv_bias", "attention_bias", default=True)
    style: dict[str, Any] = {
        "qkv_bias": bias, "out_bias": bias and third, "qk_norm": "head" if third else "",
    }  # fmt: skip
    window = c.size("sliding_window", default=None) if c.flag("use_sliding_window") else None
    first_sliding = int(c.size("max_window_layers", default=float(n), least=0))
    kinds = layer_types(c, n, ["sliding_attention" if window and i >= first_sliding else "full_attention"
                               for i in range(n)])  # fmt: skip
    layers = []
    for i, kind in enumerate(kinds):
        sliding = kind == "sliding_attention" and window is not None
        attn = attention(c, window=window if sliding else None, **style)
        ffn = feed_forward(c, i)
        label = ("sliding+" if sliding else "attention+") + ("moe" if isinstance(ffn, MoE) else "mlp")
        layers.append(pre_norm(label, attn.hidden, attn, ffn))
    return layers


def feed_forward(c: Config, index: int) -> MLP | MoE:
    """The experts of a layer, or its dense MLP."""
    experts = c.size("num_experts", "num_local_experts", "n_routed_experts", default=0.0, least=0)
    step = int(c.size("decoder_sparse_step", default=1.0))
    if not experts or index in c.items("mlp_only_layers", default=[]) or (index + 1) % step:
        return mlp(c)
    shared = c.size("shared_expert_intermediate_size", default=0.0, least=0)
    return MoE(
        c.size("hidden_size"),
        experts,
        c.size("num_experts_per_tok"),
        c.size("moe_intermediate_size"),
        shared_inner=shared,
        shared_gate=shared > 0,
    )


def _mtp(c: Config, layers: list[Layer]) -> list[Stack]:
    n = modules(c, "num_nextn_predict_layers")
    return [mtp_stack(c.size("hidden_size"), c.size("vocab_size"), [layers[-1]] * n)] if n else []
