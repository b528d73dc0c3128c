"""One attention of the lightning papers' benchmarks, with softmax and without."""

from __future__ import annotations

import tierwise as tw
from tierwise.models.blocks.attention import Attention
from tierwise.models.blocks.linear_attention import LinearAttention
from tierwise.models.types import Block, Layer, Model, Stack
from tierwise.papers.base import scenario
from tierwise.result import PricedOp

HEADS, WIDTH = 32.0, 128.0


def linear() -> Block:
    """Linear attention with a fixed decay a head and the kernel's blocks of 64 tokens."""
    return LinearAttention(HEADS * WIDTH, HEADS, WIDTH, WIDTH, chunk=64.0)


def softmax() -> Block:
    """Causal softmax attention of the same widths."""
    return Attention(HEADS * WIDTH, HEADS, HEADS, WIDTH)


def alone(block: Block, layers: int = 1, *beside: Block) -> Model:
    """A model that is nothing but this block (and those beside it)."""
    stack = Stack("decoder", (Layer("attention", (block, *beside)),), (0,) * layers)
    return Model("lightning", "tnl", HEADS * WIDTH, 0.0, (stack,))


def forward(model: Model, length: float, batch: float) -> tw.Result:
    """One pass over whole sequences."""
    whole = scenario(model, "1xa100-sxm-80gb", tw.Batch(prompt=length, output=1, batch=batch))
    return tw.evaluate(whole.with_plan(chunk=1e12))


def core(block: Block, length: float, batch: float = 4.0) -> PricedOp:
    """The attention kernel without its projections."""
    kinds = ("scan", "attention")
    return next(p for p in forward(alone(block), length, batch).phase("prefill").ops if p.op.kind in kinds)
