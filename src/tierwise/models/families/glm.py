"""GLM: ChatGLM and GLM-4 (dense), GLM-4.5 (experts), GLM-5 (latent attention with a shared indexer).

Shapes after `transformers` (models/glm, glm4, glm4_moe, glm_moe_dsa); ChatGLM's after the fields of its own
configuration (it is published with its own code, which is not run here).
"""

from __future__ import annotations

from tierwise.models.blocks.attention import Attention
from tierwise.models.blocks.mlp import MLP
from tierwise.models.blocks.moe import MoE
from tierwise.models.config import Config
from tierwise.models.families._common import attention, decoder, depth, mlp, pre_norm, sandwich
from tierwise.models.families.deepseek import feed_forward, indexer, latent_attention, mtp, spacing
from tierwise.models.types import Layer, Model

TYPES = ("glm", "glm4", "glm4_moe", "glm_moe_dsa", "chatglm")
# Usual fields that no count follows from here (or that others say again).
ASIDE = ("num_key_value_heads", "head_dim", "qk_head_dim", "index_skip_topk_offset", "index_topk_freq",
         "layer_types")  # fmt: skip


def build(c: Config, name: str) -> Model:
    kind = c.text("model_type")
    if kind == "chatglm":
        return _chatglm(c, name)
    layers = {"glm_moe_dsa": _latent, "glm4_moe": _experts}.get(kind, _dense)(c)
    return decoder(c, name, layers, other=mtp(c, layers), notes=spacing(c))


def _dense(c: Config) -> list[Layer]:
    attn = attention(c, qkv_bias=c.flag("attention_bias", default=True))
    arrange = sandwich if c.text("model_type") == "glm4" else pre_norm
    return [arrange("decoder", attn.hidden, attn, mlp(c))] * depth(c)


def _experts(c: Config) -> list[Layer]:
    attn = attention(c, qkv_bias=c.flag("attention_bias"), qk_norm="head" if c.flag("use_qk_norm") else "")
    layers = []
    for i in range(depth(c)):
        ffn = feed_forward(c, i)
        if isinstance(ffn, MoE):
            layers.append(pre_norm("attention+moe", attn.hidden, attn, ffn))
        else:
            layers.append(pre_norm("attention+mlp", attn.hidden, attn, ffn))
    return layers


def _latent(c: Config) -> list[Layer]:
    """Layers whose indexer is "shared" use the choice of the last "full" one before them."""
    layers = []
    for i, kind in enumerate(_indexers(c, depth(c))):
        attn = latent_attention(c, indexer(c, full=kind == "full"))
        ffn = feed_forward(c, i)
        label = ("mla" if kind == "full" else "mla-shared") + ("+moe" if isinstance(ffn, MoE) else "+mlp")
        layers.append(pre_norm(label, attn.hidden, attn, ffn))
    return layers


def _indexers(c: Config, n: int) -> list[str]:
    """An explicit list, or every ``index_topk_freq``-th layer from ``index_skip_topk_offset`` on."""
    if kinds := c.items("indexer_types", default=[]):
        return [str(k) for k in kinds[:n]]
    freq = int(c.size("index_topk_freq", default=1.0))
    offset = int(c.size("index_skip_topk_offset", default=2.0, least=0))
    return ["full" if max(i - offset + 1, 0) % freq == 0 else "shared" for i in range(n)]


def _chatglm(c: Config, name: str) -> Model:
    hidden, h, d = c.size("hidden_size"), c.size("num_attention_heads"), c.size("kv_channels")
    kv = c.size("multi_query_group_num") if c.flag("multi_query_attention") else h
    attn = Attention(hidden, h, kv, d, qkv_bias=c.flag("add_qkv_bias") or c.flag("add_bias_linear"))
    ffn = MLP(hidden, c.size("ffn_hidden_size"), bias=c.flag("add_bias_linear"))
    padded = c.but(vocab_size=c.size("padded_vocab_size", "vocab_size"))
    return decoder(padded, name, [pre_norm("decoder", hidden, attn, ffn)] * depth(c))
