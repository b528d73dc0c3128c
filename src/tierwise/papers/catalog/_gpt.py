"""The GPT that several papers serve or train: four times as wide inside as out, head and embedding one matrix."""

from __future__ import annotations

from tierwise.core.num import Num
from tierwise.models.blocks.attention import Attention
from tierwise.models.blocks.ends import Embedding, Head
from tierwise.models.blocks.mlp import MLP
from tierwise.models.blocks.moe import MoE
from tierwise.models.family import pre_norm, stack
from tierwise.models.types import Block, Model

VOCAB = 51200.0


def gpt(name: str, layers: int, width: float, heads: float, experts: float = 0.0, vocab: Num = VOCAB,
        tied: bool = True, positions: float = 0.0) -> Model:  # fmt: skip
    """A GPT: with ``experts``, every other feed-forward is a mixture of which one runs; with ``positions``, a learned
    vector for each."""
    attention = Attention(width, heads, heads, width / heads, qkv_bias=True, out_bias=True)
    dense: Block = MLP(width, 4.0 * width, gated=False, bias=True)
    sparse: Block = MoE(width, experts, 1.0, 4.0 * width, gated=False) if experts else dense
    kinds = [
        pre_norm("dense", width, attention, dense, bias=True),
        pre_norm("sparse", width, attention, sparse, bias=True),
    ]
    arranged = [kinds[i % 2 if experts else 0] for i in range(layers)]
    before: tuple[Block, ...] = (Embedding(vocab, width),)
    if positions:
        before = (*before, Embedding(positions, width, name="position"))
    ends: tuple[Block, ...] = (Head(width, vocab, tied=tied),)
    return Model(
        name, "gpt", width, vocab, (stack("decoder", arranged, before=before, after=ends),)
    )
