"""DeepSeek-MoE, V2, V3 and V3.2: a few dense layers, then routed and shared experts; latent attention from V2 on.

Shapes after `transformers` (models/deepseek_v2, deepseek_v3, deepseek_v32); V3.2's indexer is one per layer.
"""

from __future__ import annotations

from tierwise.models.blocks.mla import MLA, Indexer
from tierwise.models.blocks.mlp import MLP
from tierwise.models.blocks.moe import MoE
from tierwise.models.config import Config
from tierwise.models.families._common import attention, decoder, depth, mlp, modules, mtp_stack, pre_norm
from tierwise.models.types import Layer, Model, Stack

TYPES = ("deepseek", "deepseek_v2", "deepseek_v3", "deepseek_v32")
# Usual fields that no count follows from here (or that others say again).
ASIDE = ("num_key_value_heads", "head_dim", "qk_head_dim")
# Classes that take ``num_experts`` for ``n_routed_experts`` where a file has both.
_RENAMED = ("deepseek_v32", "glm_moe_dsa")
_EXPERTS = ("n_routed_experts", "num_local_experts")


def build(c: Config, name: str) -> Model:
    layers = text_layers(c)
    return decoder(c, name, layers, other=mtp(c, layers), notes=spacing(c))


def spacing(c: Config) -> list[str]:
    """A note where experts are not in every layer: the published code and `transformers` read that differently."""
    if c.size("moe_layer_freq", default=1.0) == 1.0:
        return []
    return ["moe_layer_freq is read as the published code does: experts in every such layer after the dense ones"]


def text_layers(c: Config) -> list[Layer]:
    """One layer per depth."""
    first = c.text("model_type", default="") == "deepseek"
    attn = attention(c) if first else latent_attention(c, indexer(c) if c.has("index_topk") else None)
    label = "attention" if first else "mla"
    return [
        pre_norm(label + ("+moe" if isinstance(ffn, MoE) else "+mlp"), attn.hidden, attn, ffn)
        for ffn in (feed_forward(c, i) for i in range(depth(c)))
    ]


def latent_attention(c: Config, index: Indexer | None = None) -> MLA:
    """Latent attention from the usual fields; a null ``q_lora_rank`` means undivided queries."""
    return MLA(
        c.size("hidden_size"),
        c.size("num_attention_heads"),
        c.size("q_lora_rank", default=0.0, least=0),
        c.size("kv_lora_rank"),
        c.size("qk_nope_head_dim"),
        c.size("qk_rope_head_dim"),
        c.size("v_head_dim"),
        bias=c.flag("attention_bias"),
        indexer=index,
    )


def indexer(c: Config, full: bool = True) -> Indexer:
    """The lightning indexer of sparse attention."""
    return Indexer(c.size("index_n_heads"), c.size("index_head_dim"), c.size("index_topk"), full)


def feed_forward(c: Config, index: int) -> MLP | MoE:
    """Dense in the first ``first_k_dense_replace`` layers, experts in every ``moe_layer_freq``-th after."""
    kinds = c.items("mlp_layer_types", default=[])
    dense_first = c.size("first_k_dense_replace", default=0.0, least=0)
    freq = int(c.size("moe_layer_freq", default=1.0))
    dense = kinds[index] == "dense" if index < len(kinds) else index < dense_first or index % freq != 0
    if dense or not c.has("n_routed_experts"):
        return mlp(c, bias=c.flag("mlp_bias"))
    inner = c.size("moe_intermediate_size")
    renamed = c.text("model_type", default="") in _RENAMED
    return MoE(
        c.size("hidden_size"),
        c.size(*(("num_experts",) if renamed else ()), *_EXPERTS),
        c.size("num_experts_per_tok"),
        inner,
        shared_inner=inner * c.size("n_shared_experts", default=0.0, least=0),
        router_bias=c.text("topk_method", default="") == "noaux_tc",
    )


def mtp(c: Config, layers: list[Layer]) -> list[Stack]:
    """The prediction modules beside the model, when the checkpoint has them."""
    n = modules(c, "num_nextn_predict_layers", "num_mtp_layers")
    return [mtp_stack(c.size("hidden_size"), c.size("vocab_size"), [layers[-1]] * n)] if n else []
