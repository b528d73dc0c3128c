"""DeepSeek-V4: compressed attention of two ratios, hyper-connections, experts in every layer.

Shapes after `transformers` (models/deepseek_v4). ``compress_ratios`` gives each layer's ratio (0: window
only; a small one comes with an indexer and overlapping windows of compression).
"""

from __future__ import annotations

from tierwise.core.errors import BadField
from tierwise.models.blocks.common import Norm
from tierwise.models.blocks.compressed import CompressedAttention, HyperConnection
from tierwise.models.blocks.moe import MoE
from tierwise.models.config import Config
from tierwise.models.families._common import decoder, depth, modules, mtp_stack
from tierwise.models.families.deepseek import indexer
from tierwise.models.types import Layer, Model

TYPES = ("deepseek_v4", "deepseek_ref")
# Usual fields that no count follows from here (or that others say again).
ASIDE = ("num_key_value_heads", "qk_rope_head_dim", "attention_bias")

_RATIOS = {
    "compressed_sparse_attention": 4.0,
    "heavily_compressed_attention": 128.0,
    "sliding_attention": 0.0,
}
_INDEXED = 4.0  # the ratio whose entries are chosen by an indexer


def build(c: Config, name: str) -> Model:
    hidden, streams = c.size("hidden_size"), c.size("hc_mult", default=4.0)
    layers = [_layer(c, ratio) for ratio in _ratios(c, depth(c))]
    n = modules(c, "num_nextn_predict_layers")
    mtp = [mtp_stack(hidden, c.size("vocab_size"), [layers[-1]] * n)] if n else []
    head = [HyperConnection(hidden, streams, head=True)]
    return decoder(c, name, layers, before_head=head, other=mtp, notes=_shared(c))


def _shared(c: Config) -> list[str]:
    """A note on several shared experts, of which `transformers` builds one."""
    n = c.size("n_shared_experts", default=1.0, least=0)
    return [] if n == 1.0 else [f"n_shared_experts: {n:.0f} are counted"]


def _ratios(c: Config, n: int) -> list[float]:
    if c.has("compress_ratios"):
        ratios = c.sizes("compress_ratios", least=0)
    elif not c.has("layer_types"):
        raise BadField(c.where, c.path + "compress_ratios", None, f"{n} ratios of 0 or more, or layer_types")
    else:
        own = c.section("compress_rates")
        rates = {**_RATIOS, **{k: own.size(k, least=0) for k in own.data}}
        ratios = [rates.get(str(k), -1.0) for k in c.items("layer_types")]
    if len(ratios) < n or min(ratios[:n]) < 0:
        raise BadField(c.where, "compress_ratios", ratios, f"{n} ratios of 0 or more")
    return ratios[:n]


def _layer(c: Config, ratio: float) -> Layer:
    hidden, streams = c.size("hidden_size"), c.size("hc_mult", default=4.0)
    indexed = 0 < ratio <= _INDEXED
    attn = CompressedAttention(
        hidden,
        c.size("num_attention_heads"),
        c.size("head_dim"),
        c.size("q_lora_rank"),
        c.size("o_groups"),
        c.size("o_lora_rank"),
        c.size("sliding_window"),
        ratio or None,
        2.0 if indexed else 1.0,
        indexer(c) if indexed else None,
    )
    inner = c.size("moe_intermediate_size")
    experts = MoE(
        hidden,
        c.size("n_routed_experts"),
        c.size("num_experts_per_tok"),
        inner,
        shared_inner=inner * c.size("n_shared_experts", default=0.0, least=0),
        router_bias=c.text("topk_method", default="") == "noaux_tc",
    )
    hyper = HyperConnection(hidden, streams)
    return Layer(f"ratio{ratio:.0f}+moe", (hyper, Norm(hidden), attn, hyper, Norm(hidden), experts))
