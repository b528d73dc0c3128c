"""Compressed sparse attention and hyper-connections (DeepSeek-V4; shapes after `transformers` deepseek_v4).

Every layer attends to a short window of whole tokens, and to older ones through entries that each stand for
``ratio`` tokens: all of them when the ratio is large, the ``top_k`` an indexer chooses when it is small.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tierwise.core.num import Num, minimum
from tierwise.core.numerics import fmt
from tierwise.models.blocks.cache import CachedTensor, copy, past_kept, past_read, reads, revised, states
from tierwise.models.blocks.common import ROPE, Linear, Plain, act, all_reduce, elementwise, matmul, share
from tierwise.models.blocks.mla import Indexer
from tierwise.models.facts import BlockFacts, Cache
from tierwise.models.step import Step
from tierwise.models.types import SequenceState, Weight
from tierwise.program.types import Op, Operand


@dataclass(frozen=True)
class CompressedAttention:
    """Multi-query attention with one shared key-value vector a token and grouped low-rank output.

    Attributes:
        heads, head_dim: of queries; key and value are one vector of ``head_dim`` for all heads.
        q_rank: rank of queries; ``o_groups`` groups of heads are each projected to ``o_rank``, then
            together out.
        near: whole tokens attended to; ``window``: how far a token looks back at all, through entries.
        ratio: tokens of one compressed entry, or None without compression.
        series: projections of a token that enter entries (2 when windows of compression overlap).
        indexer: chooses among compressed entries, with keys of its own.
        copied: as in :class:`tierwise.models.blocks.attention.Attention`.
    """

    hidden: Num
    heads: Num
    head_dim: Num
    q_rank: Num
    o_groups: Num
    o_rank: Num
    near: Num
    ratio: Num | None = None
    series: Num = 1.0
    indexer: Indexer | None = None
    window: Num | None = None
    copied: int = 0
    name: str = "attn"

    def _down(self) -> list[Linear]:
        return [Linear("q_a", self.hidden, self.q_rank), Linear("kv", self.hidden, self.head_dim)]

    def _q_up(self) -> Linear:
        return Linear("q_b", self.q_rank, self.heads * self.head_dim, split="out", grain=self.head_dim)

    def _out(self) -> list[Linear]:
        # Each group sees only its own heads, so the first map is as tall as one group.
        width = self.heads * self.head_dim / self.o_groups
        inner = self.o_groups * self.o_rank
        return [
            Linear("o_a", width, inner, split="out", grain=self.o_rank),
            Linear("o_b", inner, self.hidden, split="in", grain=self.o_rank),
        ]

    def _compress(self, dim: Num) -> list[Linear]:
        return [Linear(n, self.hidden, self.series * dim) for n in ("compress_kv", "compress_gate")]

    def _index_q(self, ix: Indexer) -> list[Linear]:
        return [Linear("index_q", self.q_rank, ix.heads * ix.dim)]

    def weights(self) -> Iterator[Weight]:
        linears = [*self._down(), self._q_up(), *self._out()]
        norms = self.q_rank + self.head_dim + self.heads
        if self.ratio is not None:
            linears += self._compress(self.head_dim)
            norms = norms + self.head_dim + self.ratio * self.series * self.head_dim
            if ix := self.indexer:
                linears += [
                    *self._compress(ix.dim),
                    *self._index_q(ix),
                    Linear("index_w", self.hidden, ix.heads),
                ]
                norms = norms + ix.dim + self.ratio * self.series * ix.dim
        for linear in linears:
            yield from linear.weights()
        yield Weight("attn_norms", norms, "norm")

    def ops(self, step: Step) -> Iterator[Op]:
        t, n = step.tokens, self.name
        h = share(self.heads, 1.0, step.plan.tp)
        yield matmul(step, f"{n}.down_proj", "attn", t, self._down(), "h", "c")
        cached = tuple(Operand(p.name, "kv", t * p.width, p.format) for p in self._parts(step)[:1])
        width = self.q_rank + self.head_dim
        yield elementwise(step, f"{n}.norm_rope_cache", "attn", {"c": t * width}, {"c": t * width}, ROPE, cached)
        if step.phase == "decode":
            yield from [op for _ in range(self.copied) for op in self._copies(step)]
        yield matmul(step, f"{n}.q_up", "attn", t, [self._q_up()], "c", "q")
        if self.ratio is not None:
            yield matmul(step, f"{n}.compress", "attn", t, self._compress(self.head_dim), "h", "e")
            entries = t / self.ratio
            size = 2.0 * t * self.series * self.head_dim
            yield elementwise(step, f"{n}.pool", "attn", {"e": size}, {"entry": entries * self.head_dim}, 4.0)
            if self.indexer is not None:
                yield from self._choose(step, self.indexer, self.ratio)
        yield self._core(step, h)
        first, second = self._out()
        yield matmul(step, f"{n}.o_a", "attn", t, [first], "o", "z")
        yield matmul(step, f"{n}.o_b", "attn", t, [second], "z", "y")
        yield from all_reduce(step, f"{n}.all_reduce", self.hidden, "y")

    def _choose(self, step: Step, ix: Indexer, ratio: Num) -> Iterator[Op]:
        """Scores of every compressed entry, and the best of them."""
        t, n = step.tokens, self.name
        yield matmul(step, f"{n}.index_compress", "attn", t, self._compress(ix.dim), "h", "ie")
        yield matmul(step, f"{n}.index_q", "attn", t, self._index_q(ix), "c", "iq")
        yield matmul(step, f"{n}.index_w", "attn", t, [Linear("index_w", self.hidden, ix.heads)], "h", "iw")
        kept = past_kept(step, self.window)
        seen = step.but(past=kept).seen_tokens(self.window) / ratio
        yield Op(
            kind="attention",
            name=f"{n}.index",
            role="attn",
            dims={
                "batch": step.seqs, "heads": ix.heads, "kv_heads": 1.0, "q": step.new, "kv": seen / step.new,
                "head_dim": ix.dim, "v_dim": 0.0, "columns": (step.past + step.new) / ratio,
            },
            flops=2.0 * step.seqs * ix.heads * ix.dim * seen,
            reads=(
                act(step, "iq", t * ix.heads * ix.dim),
                Operand("index_k", "kv", step.seqs * kept / ratio * ix.dim, fmt("fp8")),
            ),
            writes=(Operand("chosen", "act", t * ix.top_k, fmt("int32")),),
            arithmetic="fp8",
            options={"flash": True, "phase": step.phase},
        )  # fmt: skip

    def _core(self, step: Step, h: Num) -> Op:
        read, whole, d = past_read(step, self.window), self._whole, self.head_dim
        past = past_read(step, whole)
        near = step.but(past=past).seen_tokens(whole)
        entries: Num = 0.0
        older: Num = 0.0
        if self.ratio is not None:
            entries = read / self.ratio
            older = step.but(past=read).seen_tokens(self.window) / self.ratio
            if self.indexer is not None and (reach := self.indexer.reach) is not None:
                entries = minimum(entries, reach)
                older = minimum(older, step.new * reach)
        seen, t = near + older, step.tokens
        parts = self._parts(step)
        cached = list(reads(step, parts[:1], past, whole, select=self.ratio is None))
        if self.ratio is not None:
            # Entries stand for tokens: what a policy takes of tokens it takes of them.
            cached += reads(step, parts[1:2], entries * self.ratio, self.window, 1.0 / self.ratio)
        fresh = 0.0 if step.phase == "decode" else t * d
        return Op(
            kind="attention",
            name=f"{self.name}.core",
            role="attn",
            dims={
                "batch": step.seqs, "heads": h, "kv_heads": 1.0, "q": step.new, "kv": seen / step.new,
                "head_dim": d, "v_dim": d, "columns": past + step.new + entries,
            },
            flops=4.0 * step.seqs * h * d * seen * step.plan.kv.rank,
            reads=(act(step, "q", t * h * d), act(step, "c", fresh), *cached),
            writes=(act(step, "o", t * h * d),),
            arithmetic=step.act.arithmetic,
            options={"flash": step.plan.flash, "phase": step.phase},
        )  # fmt: skip

    @property
    def _whole(self) -> Num:
        """Whole tokens within reach."""
        return self.near if self.window is None else minimum(self.near, self.window)

    def _copies(self, step: Step) -> Iterator[Op]:
        whole, *compressed = self._parts(step)
        yield copy(step, self.name, [whole], step.seqs * past_kept(step, self._whole))
        if self.ratio is not None:
            yield copy(step, f"{self.name}.entries", compressed, step.seqs * past_kept(step, self.window) / self.ratio)

    def _parts(self, step: Step) -> list[CachedTensor]:
        """Cached tensors: one vector a near token, one an entry, one index key an entry."""
        kept = self.head_dim * step.plan.kv.rank
        parts = [CachedTensor("kv_cache", kept, self.head_dim, step.key)]
        if self.ratio is not None:
            parts.append(CachedTensor("entries", kept, self.head_dim, step.key))
            if self.indexer is not None:
                parts.append(CachedTensor("index_k", self.indexer.dim, self.indexer.dim, fmt("fp8")))
        return parts

    def state(self, step: Step) -> Iterator[SequenceState]:
        # The one key-value vector serves all heads, so tensor parallelism replicates it.
        whole, *compressed = self._parts(step)
        yield from states(step, [whole], self._whole)
        if self.ratio is not None:
            yield from states(step, compressed, self.window, 1.0 / self.ratio)

    def facts(self) -> BlockFacts:
        one = "one vector a token is key and value of every head"
        refuses = {
            "remat": one,
            "rebuilt": one,
            "expanded": f"{one}, inside the kernel",
            "density": "its near tokens and compressed entries are a static pattern already",
            "budget": "near tokens are a fixed number, and older ones are held by entries",
        }
        if self.indexer is not None:
            refuses["read"] = "an indexer already chooses the entries it reads"
        return BlockFacts(self.heads, 1.0, self.head_dim, scores=True, cache=Cache("entries", refuses))

    def adapted(self, policy: str, value: Any) -> CompressedAttention:
        found: CompressedAttention = revised(self, policy, value)
        return found


@dataclass(frozen=True)
class HyperConnection(Plain):
    """Several residual streams, mixed by weights computed from them before and after a block (one per block).

    Attributes:
        streams: how many residual streams of width ``hidden`` there are.
        head: the last one, which only gathers the streams.
    """

    hidden: Num
    streams: Num
    head: bool = False
    name: str = "hyper"

    def _mix(self) -> Linear:
        m = self.streams
        return Linear("hyper", m * self.hidden, m if self.head else m * (m + 2.0), role="norm")

    def weights(self) -> Iterator[Weight]:
        linear = self._mix()
        yield from linear.weights()
        yield Weight("hyper_base", linear.d_out + (1.0 if self.head else 3.0), "norm")

    def ops(self, step: Step) -> Iterator[Op]:
        linear, wide = self._mix(), step.tokens * self.streams * self.hidden
        yield matmul(step, f"{self.name}.weights", "norm", step.tokens, [linear], "x", "mix")
        # The streams are read to form the block's input, and read and written when its output joins them.
        yield elementwise(step, f"{self.name}.mix", "norm", {"x": 2.0 * wide}, {"x": wide}, 2.0)
