"""BERT (arXiv:1810.04805), RoBERTa (arXiv:1907.11692) and what has their shape: bidirectional text encoders, among them
ALBERT (arXiv:1909.11942), whose layers are one, Longformer (arXiv:2004.05150) and BigBird (arXiv:2007.14062), which
look around, and Nomic's (arXiv:2402.01613), with gated MLPs, rotary positions and few biases.

Shapes after `transformers` (models/bert, models/roberta): norms follow their block; the masked-language head
shares the embedding; a bare model has a pooler.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tierwise.models.blocks.common import Extra, Linear, Norm, Projection
from tierwise.models.blocks.ends import Embedding, Head
from tierwise.models.blocks.mlp import MLP
from tierwise.models.config import Config
from tierwise.models.families._common import context, depth, stack
from tierwise.models.families._encoder import architecture, block_sparse, encoder_layer, labels, local_window
from tierwise.models.types import Block, Layer, Model

TYPES = ("bert", "roberta", "xlm-roberta", "camembert", "roberta-prelayernorm", "xlm-roberta-xl", "megatron-bert",
         "ernie", "data2vec-text", "ibert", "mra", "yoso", "electra", "distilbert", "mpnet", "deberta-v2", "esm",
         "roformer", "big_bird", "nezha", "albert", "longformer", "nomic_bert")  # fmt: skip
# Usual fields that no count follows from here (or that others say again).
ASIDE = ("pooler_hidden_size", "max_relative_positions", "legacy", "use_task_id", "summary_use_proj", "norm_rel_ebd",
         "share_att_key", "pos_att_type", "position_buckets", "relative_attention_num_buckets", "quant_mode",
         "force_dequant", "sinusoidal_pos_embds", "generator_size", "gradient_checkpointing", "seq_classif_dropout",
         "qa_dropout", "classifier_dropout", "pooler_dropout", "use_expectation", "use_fast_hash", "lsh_backward",
         "num_hash", "hash_code_len", "conv_window", "use_conv", "block_per_row", "approx_mode", "block_size",
         "num_random_blocks", "use_bias", "is_folding_model", "mask_token_id", "rotary_value", "onnx_export",
         "sep_token_id", "classifier_dropout_prob", "head_dim", "n_positions")  # fmt: skip
# Types whose bare models leave tokens as they are.
_NO_POOLER = ("nomic_bert", "distilbert", "electra", "deberta", "deberta-v2", "mra", "yoso", "nystromformer",
              "roformer")
_ROTARY = ("roformer", "nomic_bert")


def build(c: Config, name: str) -> Model:
    hidden, vocab = c.size("hidden_size", "dim", "n_embd", default=768.0), c.size("vocab_size", default=30522.0)
    encoder = stack(
        "encoder",
        _layers(c, hidden, depth(c, "num_hidden_layers", "n_layers", "n_layer")),
        before=_tables(c, hidden, vocab),
        after=_ends(c, hidden, vocab),
        stream="encode",
    )
    return Model(name, c.text("model_type"), hidden, vocab, (encoder,), max_context=context(c), task="encode")


def _layers(c: Config, hidden: float, n: int) -> list[Layer]:
    heads = c.size("num_attention_heads", "n_heads", "n_head", default=12.0)
    inner = c.size("intermediate_size", "hidden_dim", "n_inner", default=3072.0)
    kind = c.text("model_type")
    if kind == "longformer":  # a second set of maps for the tokens that see everything
        wide = 3.0 * (hidden**2 + hidden)
        return [encoder_layer(hidden, heads, inner, post_norm=True, window=local_window(c, i), extra=wide)
                for i in range(n)]  # fmt: skip
    changes: dict[str, Any] = {}
    if kind == "big_bird":
        changes = {"window": block_sparse(c)}
    elif kind == "nomic_bert":
        changes = {"gated": True, "qkv_bias": c.flag("qkv_proj_bias"), "out_bias": c.flag("qkv_proj_bias")}
    layer = encoder_layer(hidden, heads, inner, post_norm=True, **changes)
    if kind == "albert":
        each, groups = c.size("inner_group_num", default=1.0), c.size("num_hidden_groups", default=1.0)
        return [replace(layer, copies=n / groups)] * (n * int(each))
    return [layer] * n


def _tables(c: Config, hidden: float, vocab: float) -> tuple[Block, ...]:
    """Embeddings of tokens, positions and types, which may be narrower than the layers (ELECTRA)."""
    width = c.size("embedding_size", "input_embedding_size", default=hidden)
    kind = c.text("model_type")
    untyped = kind in ("distilbert", "mpnet", "esm")
    types = c.size("type_vocab_size", default=0.0 if untyped else 2.0, least=0)
    types += c.size("task_type_vocab_size", default=0.0, least=0) if kind == "ernie" else 0.0
    out: list[Block] = [Embedding(vocab, width)]
    absolute = c.text("position_embedding_type", default="absolute") == "absolute"
    if absolute and c.flag("position_biased_input", default=True) and kind not in _ROTARY:
        out.append(Embedding(c.size("max_position_embeddings", default=512.0), width, name="position"))
    if c.flag("relative_attention"):  # DeBERTa: a table for distances either way
        bucket, most = (c.real(n, default=-1.0) for n in ("position_buckets", "max_relative_positions"))
        rows = c.size("max_position_embeddings", default=512.0)
        reach = next((v for v in (bucket, most) if v > 0), rows)
        out.append(Extra("relative_positions", 2.0 * reach * hidden, "embed"))
    if types:
        out.append(Extra("token_types", types * width, "embed"))
    out.append(Norm(width, bias=True, name="embedding_norm", residual=False))
    if width != hidden:
        out.append(Projection(Linear("embedding_projection", width, hidden, True, "mlp")))
    return tuple(out)


def _ends(c: Config, hidden: float, vocab: float) -> tuple[Block, ...]:
    """What follows the layers, by architecture: token logits, a classifier, or a pooler."""
    name, kind = architecture(c), c.text("model_type")
    width = c.size("embedding_size", "input_embedding_size", default=hidden)
    dense = Projection(Linear("transform", hidden, width, True, "mlp"))
    norm = Norm(width, bias=True, name="transform_norm", residual=False)
    words = (dense, norm, Head(width, vocab, tied=True, bias=True, every=True))
    pooler = Projection(Linear("pooler", hidden, hidden, True, "mlp"), once=True)
    # BigBird's classes have a pooler that nothing runs.
    idle = (Extra("pooler", hidden**2 + hidden, "mlp"),) if kind == "big_bird" else ()
    if name.endswith(("MaskedLM", "CausalLM", "LMHeadModel")):
        return *words, *idle
    if name.endswith("ForPreTraining"):
        if kind == "electra":  # whether each token is the text's own
            return Projection(Linear("dense", hidden, hidden, True, "mlp")), Head(hidden, 1.0, bias=True, every=True)
        return *words, pooler, Head(hidden, 2.0, bias=True, pooled=True, name="next_sentence")
    if name.endswith("MultipleChoice"):
        return (*(() if kind == "roformer" else (pooler,)), Head(hidden, 1.0, bias=True, pooled=True))
    if name.endswith("SequenceClassification"):
        return pooler, Head(hidden, labels(c), bias=True, pooled=True), *idle
    if name.endswith("TokenClassification"):
        return Head(hidden, labels(c), bias=True, every=True), *idle
    if name.endswith("QuestionAnswering"):
        own = (MLP(hidden, c.size("intermediate_size"), False, True), Norm(hidden, True)) if idle else ()
        return *own, Head(hidden, 2.0, bias=True, every=True)
    return () if kind in _NO_POOLER else (pooler,)
