"""T5 (arXiv:1910.10683), T5 1.1, mT5, UMT5, LongT5 (arXiv:2112.07916) and Switch Transformers (arXiv:2101.03961).

Shapes after `transformers` (models/t5, models/umt5, models/longt5, models/switch_transformers): RMS norms before each
block, no biases, one table of relative positions per stack, in its first layer; UMT5 has one in every layer. Switch
replaces some MLPs by experts, one per token. LongT5's encoder sees ``local_radius`` tokens either way, and with
``transient-global`` a sum of every block of ``global_block_size``, which has a table and norms of its own.
"""

from __future__ import annotations

from dataclasses import replace

from tierwise.core.errors import BadField
from tierwise.models.blocks.attention import Attention
from tierwise.models.blocks.common import Extra, Norm
from tierwise.models.blocks.ends import Embedding, Head
from tierwise.models.blocks.mlp import MLP
from tierwise.models.blocks.moe import MoE
from tierwise.models.config import Config
from tierwise.models.families._common import depth, pre_norm, stack
from tierwise.models.types import Block, Layer, Model, Stack

TYPES = ("t5", "mt5", "umt5", "switch_transformers", "longt5")
ASIDE = ("scale_decoder_outputs",)


def build(c: Config, name: str) -> Model:
    hidden, vocab = c.size("d_model"), c.size("vocab_size")
    kind = c.text("model_type")
    # T5 1.0, mT5 and Switch share all embeddings unless they say otherwise; mT5 and T5 1.1 say so.
    tied = c.flag("tie_word_embeddings", default=kind != "mt5")
    both = depth(c, "num_layers")
    decoder = depth(c, "num_decoder_layers") if c.has("num_decoder_layers") else both
    encoder_stack = _stack(c, "encoder", both, (Embedding(vocab, hidden),), ())
    decoder_stack = _stack(
        c, "decoder", decoder, (Embedding(vocab, hidden, tied=True),), (Head(hidden, vocab, tied=tied),)
    )
    return Model(name, kind, hidden, vocab, (encoder_stack, decoder_stack))


def _stack(c: Config, name: str, n: int, before: tuple[Block, ...], after: tuple[Block, ...]) -> Stack:
    decodes = name == "decoder"
    hidden, heads = c.size("d_model"), c.size("num_heads")
    positions = Extra("relative_positions", c.size("relative_attention_num_buckets", default=32.0) * heads)
    period = _sparse_period(c, name, n)
    sums = _global_sums(c, name)
    layers = [_layer(c, decodes, period == 1 or (period > 1 and i % period == 1)) for i in range(n)]
    each = c.text("model_type") == "umt5"
    if each:
        layers = [replace(layer, blocks=(positions, *layer.blocks)) for layer in layers]
    if sums:
        layers = [replace(layer, blocks=(Extra("global_norm", hidden), *layer.blocks)) for layer in layers]
        before = (*before, Extra("global_positions", positions.elements))
    return stack(
        name,
        layers,
        before=before if each else (*before, positions),
        after=(Norm(hidden, name="final_norm"), *after),
        stream="text" if decodes else "encode",
    )


def _layer(c: Config, decodes: bool, sparse: bool) -> Layer:
    hidden, heads, d = c.size("d_model"), c.size("num_heads"), c.size("d_kv")
    inner = c.size("d_ff")
    gated = c.text("feed_forward_proj", default="relu").startswith("gated")
    attn = Attention(hidden, heads, heads, d, causal=decodes)
    if not decodes and c.text("model_type") == "longt5":
        block = c.size("global_block_size", default=16.0) if _global_sums(c, "encoder") else float("inf")
        attn = replace(attn, window=2.0 * c.size("local_radius", default=127.0) + 1.0, pooled=block)
    blocks: list[Block] = [attn]
    if decodes:
        blocks.append(Attention(hidden, heads, heads, d, source="cross", name="cross"))
    if sparse:
        blocks.append(MoE(hidden, c.size("num_experts"), 1.0, inner, gated=False))
    else:
        blocks.append(MLP(hidden, inner, gated))
    return pre_norm("attention+" + ("moe" if sparse else "mlp"), hidden, *blocks)


def _sparse_period(c: Config, name: str, n: int) -> int:
    """Every how many layers experts replace the MLP; 0 for never."""
    if c.text("model_type") != "switch_transformers":
        return 0
    sparse = int(c.size(f"num_sparse_{name}_layers", default=3.0, least=0))
    return n // sparse if sparse else 0


def _global_sums(c: Config, name: str) -> bool:
    """Whether tokens of this stack also attend to sums over blocks (LongT5's transient-global attention)."""
    if c.text("model_type") != "longt5" or name != "encoder":
        return False
    kind = c.text("encoder_attention_type", default="local")
    if kind not in ("local", "transient-global"):
        raise BadField(c.where, "encoder_attention_type", kind, "local, transient-global")
    return kind == "transient-global"
