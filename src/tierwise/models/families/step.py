"""Step-3.7: gated attention, mostly sliding, and experts after three dense layers.

Shapes after `transformers` (models/step3p7). Published configurations may give sliding layers other head
counts (``attention_other_setting``); where there are none, they are taken to be equal, and a note says so.
"""

from __future__ import annotations

from tierwise.models.blocks.moe import MoE
from tierwise.models.config import Config
from tierwise.models.families._common import attention, decoder, depth, layer_types, mlp, modules, mtp_stack, pre_norm
from tierwise.models.types import Layer, Model

TYPES = ("step3p7", "step3p5")
# Usual fields that no count follows from here (or that others say again).
ASIDE = ("n_shared_experts",)


def build(c: Config, name: str) -> Model:
    text = c.section("text_config") if c.has("text_config") else _flat(c)
    layers = _layers(text)
    notes = ["image tower left out", *(f"{k} is read though the class of transformers has it not" for k in _OWN
                                       if text.given(k) and text.raw(k) != _OWN[k])]  # fmt: skip
    if not text.has("attention_other_setting"):
        notes.append("sliding layers are taken to have as many heads as the others")
    n = modules(text, "num_nextn_predict_layers")
    mtp = [mtp_stack(text.size("hidden_size"), text.size("vocab_size"), [layers[-1]] * n)] if n else []
    return decoder(text, name, layers, other=mtp, top=c, notes=notes)


# Fields of published flat configurations that the class calls otherwise, with what it takes for them.
_OWN = {"num_experts": 288, "first_k_dense_replace": 3}


def _flat(c: Config) -> Config:
    """A configuration without sections, with the defaults of the text model's class."""
    return Config(c.data, c.where, c.path, c.defaults.section("text_config", ""), c.seen)


def _layers(c: Config) -> list[Layer]:
    n, hidden = depth(c), c.size("hidden_size")
    other = {k: v for k, v in c.section("attention_other_setting").data.items() if k != "attention_type"}
    sliding_c = c.but(**other)
    window = c.size("sliding_window", default=None)
    dense_first = int(c.size("first_k_dense_replace", default=3.0, least=0))
    experts = MoE(
        hidden,
        c.size("num_experts" if c.given("num_experts") else "n_routed_experts", "moe_num_experts"),
        c.size("num_experts_per_tok", "moe_top_k"),
        c.size("moe_intermediate_size"),
        shared_inner=c.size("share_expert_dim", "share_expert_dims", default=0.0, least=0),
        router_bias=c.flag("use_moe_router_bias"),
    )
    dense = mlp(c)
    layers = []
    for i, kind in enumerate(layer_types(c, n)):
        sliding = kind == "sliding_attention" and window is not None
        of = sliding_c if sliding else c
        # One gate per head, computed from the layer's input.
        gate = hidden * of.size("num_attention_heads")
        attn = attention(of, window=window if sliding else None, qk_norm="head", extra=gate)
        ffn = dense if i < dense_first else experts
        label = ("sliding" if sliding else "attention") + ("+moe" if ffn is experts else "+mlp")
        layers.append(pre_norm(label, hidden, attn, ffn))
    return layers
