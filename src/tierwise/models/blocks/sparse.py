"""Grouped-query attention that reads only the blocks of keys an indexer picks (MiniMax-M3)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from tierwise.core.num import Num
from tierwise.models.blocks.attention import Attention
from tierwise.models.blocks.cache import CachedTensor, past_kept, states
from tierwise.models.blocks.common import Linear, act, matmul
from tierwise.models.facts import BlockFacts
from tierwise.models.step import Step
from tierwise.models.types import SequenceState, Weight
from tierwise.program.types import Op, Operand


@dataclass(frozen=True)
class BlockSparseAttention:
    """Scores every cached token with small index keys, keeps the best ``blocks`` blocks, attends to those.

    Attributes:
        attn: the attention itself, with a full cache.
        heads, dim: of the indexer; its one key per token is cached beside keys and values.
        block: tokens of a block; ``blocks``: how many a query attends to.
    """

    attn: Attention
    heads: Num
    dim: Num
    block: Num
    blocks: Num

    @property
    def hidden(self) -> Num:
        return self.attn.hidden

    def _linears(self) -> list[Linear]:
        return [
            Linear("index_q", self.hidden, self.heads * self.dim),
            Linear("index_k", self.hidden, self.dim),
        ]

    def weights(self) -> Iterator[Weight]:
        yield from self.attn.weights()
        for linear in self._linears():
            yield from linear.weights()
        yield Weight("index_norm", 2.0 * self.dim, "norm")

    def ops(self, step: Step) -> Iterator[Op]:
        t, name = step.tokens, self.attn.name
        yield matmul(step, f"{name}.index_proj", "attn", t, self._linears(), "h", "iq")
        kept = past_kept(step, self.attn.span, self.attn.budget)
        seen = step.but(past=kept).seen_tokens(self.attn.window)
        keys = Operand("index_k", "kv", step.seqs * kept * self.dim, step.key)
        yield Op(
            kind="attention",
            name=f"{name}.index",
            role="attn",
            dims={
                "batch": step.seqs, "heads": self.heads, "kv_heads": 1.0, "q": step.new,
                "kv": seen / step.new, "head_dim": self.dim, "v_dim": 0.0, "columns": step.past + step.new,
            },
            flops=2.0 * step.seqs * self.heads * self.dim * seen,
            reads=(act(step, "iq", t * self.heads * self.dim), keys),
            writes=(act(step, "chosen", t * self.heads * self.blocks),),
            arithmetic=step.act.arithmetic,
            options={"flash": True, "phase": step.phase},
        )  # fmt: skip
        yield from replace(self.attn, chosen=self.block * self.blocks).ops(step)

    def state(self, step: Step) -> Iterator[SequenceState]:
        yield from self.attn.state(step)
        key = CachedTensor("index_k", self.dim, self.dim, step.key)
        yield from states(step, [key], self.attn.span, budget=self.attn.budget)

    def facts(self) -> BlockFacts:
        facts = self.attn.facts()
        if facts.cache is None:
            return facts
        chosen = dict.fromkeys(("read", "density", "rebuilt"), "an indexer already chooses the blocks it reads")
        return replace(facts, cache=replace(facts.cache, refuses={**facts.cache.refuses, **chosen}))

    def adapted(self, policy: str, value: Any) -> BlockSparseAttention:
        return replace(self, attn=self.attn.adapted(policy, value))
