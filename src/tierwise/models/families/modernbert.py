"""ModernBERT (arXiv:2412.13663): rotary positions, gated MLPs, no biases; two layers in three see a window.

Shapes after `transformers` (models/modernbert). The first layer has no norm before attention.
"""

from __future__ import annotations

from tierwise.models.blocks.common import Linear, Norm, Projection
from tierwise.models.blocks.ends import Embedding, Head
from tierwise.models.config import Config
from tierwise.models.families._common import attention, context, depth, layer_types, mlp, stack
from tierwise.models.families._encoder import architecture, labels
from tierwise.models.types import Block, Layer, Model

TYPES = ("modernbert",)
# Usual fields that no count follows from here (or that others say again).
ASIDE = ("classifier_pooling", "deterministic_flash_attn", "sparse_prediction", "sparse_pred_ignore_index",
         "reference_compile", "repad_logits_with_grad", "gradient_checkpointing", "sliding_window",
         "tie_word_embeddings", "initializer_cutoff_factor")  # fmt: skip


def build(c: Config, name: str) -> Model:
    hidden, vocab, n = c.size("hidden_size"), c.size("vocab_size"), depth(c)
    step = int(c.size("global_attn_every_n_layers", default=3.0))
    usual = ["full_attention" if i % step == 0 else "sliding_attention" for i in range(n)]
    layers = [_layer(c, kind, first=i == 0) for i, kind in enumerate(layer_types(c, n, usual))]
    norm = Norm(hidden, c.flag("norm_bias"), "embedding_norm", residual=False)
    encoder = stack("encoder", layers, before=(Embedding(vocab, hidden), norm), after=_ends(c, hidden, vocab),
                    stream="encode")  # fmt: skip
    return Model(name, "modernbert", hidden, vocab, (encoder,), max_context=context(c), task="encode")


def _layer(c: Config, kind: str, first: bool) -> Layer:
    # So many tokens on both sides together, and its own.
    window = c.size("local_attention", default=128.0) + 1.0 if kind == "sliding_attention" else None
    bias = c.flag("attention_bias")
    attn = attention(c, window=window, causal=False, qkv_bias=bias, out_bias=bias)
    norm = Norm(attn.hidden, c.flag("norm_bias"))
    blocks: tuple[Block, ...] = (attn, norm, mlp(c, bias=c.flag("mlp_bias")))
    return Layer("sliding" if window else "attention", blocks if first else (norm, *blocks))


def _ends(c: Config, hidden: float, vocab: float) -> tuple[Block, ...]:
    kind, bias = architecture(c), c.flag("norm_bias")
    final = Norm(hidden, bias, "final_norm")
    pooled = kind.endswith(("SequenceClassification", "MultipleChoice"))  # before the head's map
    dense = Projection(Linear("transform", hidden, hidden, c.flag("classifier_bias"), "mlp"), once=pooled)
    shaped = (final, dense, Norm(hidden, bias, "transform_norm", residual=False))
    if kind.endswith("MaskedLM"):
        return *shaped, Head(hidden, vocab, tied=True, bias=c.flag("decoder_bias", default=True), every=True)
    if pooled:
        return *shaped, Head(hidden, labels(c) if "Sequence" in kind else 1.0, bias=True, pooled=True)
    if kind.endswith(("TokenClassification", "QuestionAnswering")):
        return *shaped, Head(hidden, 2.0 if "Question" in kind else labels(c), bias=True, every=True)
    return (final,)
