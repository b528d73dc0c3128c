"""BART (arXiv:1910.13461) and what has its shape: mBART, Marian, M2M-100 and NLLB, Pegasus, Blenderbot, PLBART, MVP.

Shapes after `transformers` (models/bart and the others): LayerNorm, biases everywhere, one table for both embeddings
and the head. They differ in positions (learned, or computed and not counted) and norms at the ends of the stacks.
NLLB's mixture has experts in some of its layers.
"""

from __future__ import annotations

from tierwise.models.blocks.attention import Attention
from tierwise.models.blocks.common import Norm
from tierwise.models.blocks.ends import Embedding, Head
from tierwise.models.blocks.mlp import MLP
from tierwise.models.blocks.moe import MoE
from tierwise.models.config import Config
from tierwise.models.families._common import depth, pre_norm, stack
from tierwise.models.types import Block, Model, Stack

# Rows of the position table beyond ``max_position_embeddings``; norms on the embedding and after the last layer.
_STYLES: dict[str, tuple[float | None, bool, bool]] = {
    "bart": (2.0, True, False),
    "mbart": (2.0, True, True),
    "plbart": (2.0, True, False),
    "mvp": (2.0, True, False),
    "blenderbot": (0.0, False, True),
    "blenderbot-small": (0.0, True, False),
    "pegasus": (0.0, False, True),
    "marian": (0.0, False, False),
    "m2m_100": (None, False, True),
    "nllb-moe": (None, False, True),
}
TYPES = tuple(_STYLES)
# Usual fields that no count follows from here (or that others say again).
ASIDE = ("num_hidden_layers", "scale_embedding", "classif_dropout", "use_prompt", "prompt_length", "prompt_mid_dim",
         "share_encoder_decoder_embeddings", "extra_pos_embeddings", "normalize_embedding", "normalize_before",
         "add_final_layer_norm", "add_bias_logits", "static_position_embeddings", "force_bos_token_to_be_generated",
         "save_step", "gradient_checkpointing", "classifier_dropout", "decoder_vocab_size")  # fmt: skip


def build(c: Config, name: str) -> Model:
    hidden, vocab = c.size("d_model", "hidden_size"), c.size("vocab_size")
    decoder = _stack(c, "decoder", (Head(hidden, vocab, tied=True),))
    limit = c.size("max_position_embeddings", default=float("inf"))
    return Model(name, c.text("model_type"), hidden, vocab, (_stack(c, "encoder", ()), decoder), max_context=limit)


def _stack(c: Config, side: str, after: tuple[Block, ...]) -> Stack:
    hidden, vocab = c.size("d_model", "hidden_size"), c.size("vocab_size")
    beyond, normed_in, normed_out = _STYLES[c.text("model_type")]
    heads, inner = c.size(f"{side}_attention_heads"), c.size(f"{side}_ffn_dim")
    decodes = side == "decoder"
    blocks: list[Block] = [_attention(hidden, heads, causal=decodes)]
    if decodes:
        blocks.append(_attention(hidden, heads, source="cross", name="cross"))
    before: list[Block] = [Embedding(vocab, hidden, tied=decodes)]
    if beyond is not None:
        before.append(Embedding(c.size("max_position_embeddings") + beyond, hidden, "position"))
    if normed_in:
        before.append(Norm(hidden, True, "embedding_norm", residual=False))
    ends: list[Block] = [Norm(hidden, True, "final_norm")] if normed_out else []
    dense = pre_norm("attention+mlp", hidden, *blocks, MLP(hidden, inner, False, True), bias=True)
    layers = [dense] * (n := depth(c, f"{side}_layers"))
    if c.text("model_type") == "nllb-moe" and (step := int(c.size(f"{side}_sparse_step", default=4.0, least=0))):
        experts = MoE(hidden, c.size("num_experts", default=128.0), 2.0, inner, gated=False, bias=True,
                      router_bias=c.flag("router_bias"))  # fmt: skip
        sparse = pre_norm("attention+moe", hidden, *blocks, experts, bias=True)
        layers = [sparse if (i + 1) % step == 0 else dense for i in range(n)]
    return stack(side, layers, before=tuple(before), after=(*ends, *after),
                 stream="text" if decodes else "encode")  # fmt: skip


def _attention(hidden: float, heads: float, **changes: object) -> Attention:
    return Attention(hidden, heads, heads, hidden / heads, qkv_bias=True, out_bias=True, **changes)  # type: ignore[arg-type]
