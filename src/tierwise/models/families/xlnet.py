"""XLNet (arXiv:1906.08237): a bidirectional encoder whose scores add a product with projected distances.

Shapes after `transformers` (models/xlnet): norms follow their block, no biases but the MLP's. The second stream of
pre-training is not run.
"""

from __future__ import annotations

from tierwise.models.blocks.attention import Attention
from tierwise.models.blocks.common import Extra, Linear, Norm, Projection
from tierwise.models.blocks.ends import Embedding, Head
from tierwise.models.blocks.mlp import MLP
from tierwise.models.config import Config
from tierwise.models.families._common import depth, stack
from tierwise.models.families._encoder import architecture, labels
from tierwise.models.types import Block, Layer, Model

TYPES = ("xlnet",)
# Training, memories of earlier segments, and which of its tokens a classifier takes.
ASIDE = ("mem_len", "reuse_len", "bi_data", "clamp_len", "same_length", "use_mems_eval", "use_mems_train", "untie_r",
         "summary_use_proj", "start_n_top", "end_n_top")  # fmt: skip


def build(c: Config, name: str) -> Model:
    hidden, vocab = c.size("d_model", "hidden_size"), c.size("vocab_size", "n_token")
    heads = c.size("n_head", "num_attention_heads")
    width = c.size("d_head", default=hidden / heads)
    # Distances: a map of their own, and for each head three biases of scores and two vectors of segments.
    extra = heads * width * (hidden + 5.0)
    attn = Attention(hidden, heads, heads, width, causal=False, extra=extra)
    mlp, norm = MLP(hidden, c.size("d_inner", default=4.0 * hidden), gated=False, bias=True), Norm(hidden, True)
    encoder = stack(
        "encoder",
        [Layer("attention+mlp", (attn, norm, mlp, norm))] * depth(c, "n_layer", "num_hidden_layers"),
        before=(Embedding(vocab, hidden), Extra("mask", hidden, "embed")),
        after=_ends(c, hidden, vocab),
        stream="encode",
    )
    notes = ("scores of relative distances are not priced: their maps are counted",)
    return Model(name, "xlnet", hidden, vocab, (encoder,), task="encode", notes=notes)


def _ends(c: Config, hidden: float, vocab: float) -> tuple[Block, ...]:
    kind = architecture(c)
    if kind.endswith("LMHeadModel"):
        return (Head(hidden, vocab, tied=True, bias=True, every=True),)
    if kind.endswith("SequenceClassification"):
        summary = Projection(Linear("summary", hidden, hidden, True, "mlp"), once=True)
        return summary, Head(hidden, labels(c), bias=True, pooled=True)
    if kind.endswith("TokenClassification"):
        return (Head(hidden, labels(c), bias=True, every=True),)
    return (Head(hidden, 2.0, bias=True, every=True),) if kind.endswith("QuestionAnsweringSimple") else ()
