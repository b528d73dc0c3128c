"""Decoders of the years after GPT-2: LayerNorm, MLPs of two maps, biases here and there, learned positions or none.

Shapes after `transformers` (models/gptj, codegen, gpt_neo, gpt_bigcode, mpt, xglm, openai, biogpt, ctrl, starcoder2).
"""

from __future__ import annotations

from dataclasses import dataclass

from tierwise.models.blocks.attention import Attention
from tierwise.models.blocks.ends import Embedding
from tierwise.models.blocks.mlp import MLP
from tierwise.models.config import Config
from tierwise.models.families._common import beside, context, decoder, depth, pre_norm
from tierwise.models.types import Layer, Model


@dataclass(frozen=True)
class _Style:
    """What a type has where its fields do not say.

    Attributes:
        qkv, out, mlp: biases of attention's projections and of the MLP.
        positions: rows of a learned table beyond ``max_position_embeddings``; None for no table.
        parallel: attention and MLP read the same normed input.
        own_head: a head with a bias, not tied.
    """

    qkv: bool = True
    out: bool = True
    mlp: bool = True
    positions: float | None = None
    parallel: bool = False
    own_head: bool = False


_STYLES = {
    "gptj": _Style(qkv=False, out=False, parallel=True, own_head=True),
    "codegen": _Style(qkv=False, out=False, parallel=True, own_head=True),
    "gpt_neo": _Style(qkv=False, positions=0.0),
    "gpt_bigcode": _Style(positions=0.0),
    "mpt": _Style(qkv=False, out=False, mlp=False),
    "xglm": _Style(),
    "openai-gpt": _Style(positions=0.0),
    "biogpt": _Style(positions=2.0),
    "ctrl": _Style(own_head=True),
    "starcoder2": _Style(),
}
TYPES = tuple(_STYLES)
# Usual fields that no count follows from here (or that others say again).
ASIDE = ("n_ctx", "rotary_dim", "attention_types", "init_config", "attn_config", "learned_pos_emb", "layer_types",
         "scale_embedding", "add_cross_attention", "attention_softmax_in_fp32", "inference_runner",
         "validate_runner_input", "pre_allocate_kv_cache", "max_sequence_length", "max_batch_size",
         "scale_attention_softmax_in_fp32", "embedding_fraction", "norm_type", "no_bias", "logit_scale", "verbose",
         "intermediate_size", "num_key_value_heads", "afn", "summary_proj_to_labels", "summary_use_proj")  # fmt: skip


def build(c: Config, name: str) -> Model:
    style = _STYLES[c.text("model_type")]
    c = c.but(hidden_size=c.size("n_embd", "hidden_size", "d_model"))
    n = depth(c, "n_layer", "num_layers", "num_hidden_layers", "n_layers")
    layers = [_layer(c, style, window) for window in _windows(c, n)]
    table = []
    if style.positions is not None:
        rows = c.size("n_positions", "max_position_embeddings") + style.positions
        table = [Embedding(rows, c.size("hidden_size"), "positions")]
    return decoder(c, name, layers, tied=not style.own_head, norm_bias=c.text("model_type") != "mpt",
                   head_bias=style.own_head, after_embedding=table)  # fmt: skip


def _layer(c: Config, style: _Style, window: float | None) -> Layer:
    hidden = c.size("hidden_size")
    heads = c.size("n_head", "num_attention_heads", "num_heads", "attention_heads", "n_heads")
    alone = c.has("multi_query") and c.flag("multi_query")
    kv = 1.0 if alone else c.size("num_key_value_heads", default=heads)
    bias = c.flag("use_bias", default=True)
    attn = Attention(hidden, heads, kv, c.size("head_dim", default=hidden / heads), window=window,
                     qkv_bias=style.qkv and bias, out_bias=style.out and bias)  # fmt: skip
    inner = c.size("n_inner", "dff", "ffn_dim", "intermediate_size",
                   default=hidden * c.size("expansion_ratio", default=4.0))  # fmt: skip
    ffn = MLP(hidden, inner, gated=False, bias=style.mlp and bias)
    norms = c.text("model_type") != "mpt"
    if style.parallel:
        return beside("decoder", hidden, attn, ffn, bias=norms)
    return pre_norm("sliding" if window else "decoder", hidden, attn, ffn, bias=norms)


def _windows(c: Config, n: int) -> list[float | None]:
    """Window of each layer: GPT-Neo's local ones by ``attention_layers``, StarCoder2's all."""
    window = c.size("window_size", "sliding_window", default=None)
    if c.text("model_type") != "gpt_neo":
        return [min(window, context(c)) if window else None] * n
    kinds = c.items("attention_layers", default=None) or ["global", "local"]
    return [window if kinds[i % len(kinds)] == "local" else None for i in range(n)]
