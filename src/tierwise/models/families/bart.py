"""BART (arXiv:1910.13461) and what has its shape: mBART, Marian, M2M-100 and NLLB, Pegasus, Blenderbot, PLBART, MVP;
LED (arXiv:2004.05150), BigBird-Pegasus (arXiv:2007.14062) and PEGASUS-X (arXiv:2208.04347) for long inputs; TrOCR's
decoder (arXiv:2109.10282).

Shapes after `transformers` (models/bart and the others): LayerNorm, biases, one table for both embeddings and the head.
They differ in positions (learned, or computed and not counted), norms at the ends of the stacks, and what their
encoders attend to. NLLB's mixture has experts in some of its layers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from tierwise.core.errors import BadField
from tierwise.models.blocks.attention import Attention
from tierwise.models.blocks.common import Extra, Norm
from tierwise.models.blocks.ends import Embedding, Head
from tierwise.models.blocks.mlp import MLP
from tierwise.models.blocks.moe import MoE
from tierwise.models.config import Config
from tierwise.models.families._common import depth, pre_norm, stack
from tierwise.models.families._encoder import architecture, block_sparse, local_window
from tierwise.models.types import Block, Layer, Model, Stack


@dataclass(frozen=True)
class _Style:
    """``beyond``: rows of the position table beyond the longest input, None where positions are computed; norms on the
    embedding and after the last layer; biases of attention."""

    beyond: float | None
    normed_in: bool
    normed_out: bool
    bias: bool = True


_STYLES = {
    "bart": _Style(2.0, True, False),
    "mbart": _Style(2.0, True, True),
    "plbart": _Style(2.0, True, False),
    "mvp": _Style(2.0, True, False),
    "blenderbot": _Style(0.0, False, True),
    "blenderbot-small": _Style(0.0, True, False),
    "pegasus": _Style(0.0, False, True),
    "marian": _Style(0.0, False, False),
    "m2m_100": _Style(None, False, True),
    "nllb-moe": _Style(None, False, True),
    "led": _Style(0.0, True, False),
    "bigbird_pegasus": _Style(0.0, False, True, bias=False),
    "pegasus_x": _Style(None, False, True, bias=False),
    "trocr": _Style(2.0, True, False),
    "seamless_m4t": _Style(None, False, True),
    "seamless_m4t_v2": _Style(None, False, True),
}
_SPOKEN = re.compile("ToSpeech|SpeechTo")
_WRITTEN = "its speech encoder, its decoder of units and its vocoder are left out: read as what translates text"
TYPES = tuple(_STYLES)
# Usual fields that no count follows from here (or that others say again).
ASIDE = ("num_hidden_layers", "scale_embedding", "classif_dropout", "use_prompt", "prompt_length", "prompt_mid_dim",
         "share_encoder_decoder_embeddings", "extra_pos_embeddings", "normalize_embedding", "normalize_before",
         "add_final_layer_norm", "add_bias_logits", "static_position_embeddings", "force_bos_token_to_be_generated",
         "save_step", "gradient_checkpointing", "classifier_dropout", "decoder_vocab_size",
         "stagger_local_blocks", "resblock_dilation_sizes", "resblock_kernel_sizes")  # fmt: skip


def build(c: Config, name: str) -> Model:
    hidden, vocab = c.size("d_model", "hidden_size"), c.size("vocab_size")
    notes: tuple[str, ...] = ()
    if c.text("model_type").startswith("seamless"):
        if _SPOKEN.search(architecture(c)):
            raise BadField(c.where, "architectures", architecture(c), "SeamlessM4TForTextToText: speech is not read")
        notes = (_WRITTEN,) if not architecture(c).endswith("ForTextToText") else ()
    alone = c.text("model_type") == "trocr" or architecture(c).endswith("ForCausalLM")
    # A decoder by itself has weights to attend to an encoder with, and no encoder.
    stacks = (decoder_stack(c, "nothing"),) if alone else (_stack(c, "encoder"), decoder_stack(c))
    limit = c.size("max_position_embeddings", "max_encoder_position_embeddings", default=float("inf"))
    return Model(name, c.text("model_type"), hidden, vocab, stacks, max_context=limit, notes=notes)


def decoder_stack(c: Config, behind: str = "its encoder") -> Stack:
    """The decoder with its head, behind ``its encoder``, whose table of tokens it shares, ``another`` or ``nothing``:
    then nothing is attended to but text."""
    found = _stack(c, "decoder", behind)
    # BigBird-Pegasus' decoder by itself is the one whose class does not share the table.
    tied = not (behind == "nothing" and c.text("model_type") == "bigbird_pegasus")
    return replace(found, after=(*found.after, Head(c.size("d_model", "hidden_size"), c.size("vocab_size"), tied=tied)))


def _stack(c: Config, side: str, behind: str = "its encoder") -> Stack:
    hidden, vocab = c.size("d_model", "hidden_size"), c.size("vocab_size")
    kind, style, decodes = c.text("model_type"), _STYLES[c.text("model_type")], side == "decoder"
    before: list[Block] = [Embedding(vocab, hidden, tied=decodes and behind == "its encoder")]
    if style.beyond is not None and c.flag("use_learned_position_embeddings", default=True):
        rows = c.size("max_position_embeddings", f"max_{side}_position_embeddings") + style.beyond
        before.append(Embedding(rows, hidden, "position"))
    if style.normed_in and c.flag("layernorm_embedding", default=True):
        before.append(Norm(hidden, True, "embedding_norm", residual=False))
    if kind == "pegasus_x" and not decodes:
        before.append(Extra("embed_global", c.size("num_global_tokens", default=32.0) * hidden, "embed"))
    ends: list[Block] = [Norm(hidden, True, "final_norm")] if style.normed_out else []
    layers = [_layer(c, side, i, behind == "nothing") for i in range(depth(c, f"{side}_layers"))]
    return stack(side, layers, before=tuple(before), after=tuple(ends), stream="text" if decodes else "encode")


def _layer(c: Config, side: str, index: int, alone: bool) -> Layer:
    hidden, inner, kind = c.size("d_model", "hidden_size"), c.size(f"{side}_ffn_dim"), c.text("model_type")
    decodes = side == "decoder"
    blocks: list[Block] = [_attention(c, side, causal=decodes, **({} if decodes else _seen(c, index)))]
    if decodes:
        cross = _attention(c, side, source="cross", name="cross", kv_hidden=_source(c))
        blocks.append(Extra("cross", sum(w.elements for w in cross.weights()), "attn") if alone else cross)
    step = int(c.size(f"{side}_sparse_step", default=4.0, least=0)) if kind == "nllb-moe" else 0
    if step and (index + 1) % step == 0:
        experts = MoE(hidden, c.size("num_experts", default=128.0), 2.0, inner, gated=False, bias=True,
                      router_bias=c.flag("router_bias"))  # fmt: skip
        return pre_norm("attention+moe", hidden, *blocks, experts, bias=True)
    layer = pre_norm("attention+mlp", hidden, *blocks, MLP(hidden, inner, False, True), bias=True)
    if kind == "pegasus_x" and not decodes:  # a norm of the global tokens, which are few
        return Layer(layer.name, (Extra("global_norm", 2.0 * hidden), *layer.blocks))
    return layer


def _seen(c: Config, index: int) -> dict[str, Any]:
    """What a token of an encoder attends to: everything, but for those made for long inputs."""
    kind, hidden = c.text("model_type"), c.size("d_model", "hidden_size")
    if kind == "led":  # a second set of maps for the tokens that see everything
        return {"window": local_window(c, index), "extra": 3.0 * (hidden**2 + hidden)}
    if kind == "bigbird_pegasus":
        return {"window": block_sparse(c)}
    if kind == "pegasus_x":
        return {"chunk": c.size("block_size", default=512.0) + c.size("num_global_tokens", default=32.0, least=0)}
    return {}


def _source(c: Config) -> float | None:
    """Width of what the decoder attends to, where it is not its own (TrOCR: its image encoder's)."""
    return c.size("cross_attention_hidden_size", default=None)


def _attention(c: Config, side: str, **changes: Any) -> Attention:
    hidden, heads = c.size("d_model", "hidden_size"), c.size(f"{side}_attention_heads")
    bias = c.flag("use_bias", default=_STYLES[c.text("model_type")].bias)
    return Attention(hidden, heads, heads, hidden / heads, qkv_bias=bias, out_bias=bias, **changes)
