"""Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434), with the lightning indexer of V3.2."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from tierwise.core.num import Num, minimum
from tierwise.core.numerics import fmt
from tierwise.models.blocks.cache import CachedTensor, copy, past_kept, past_read, reads, revised, states
from tierwise.models.blocks.common import ROPE, Linear, act, all_reduce, elementwise, matmul, share
from tierwise.models.facts import BlockFacts, Cache
from tierwise.models.step import Step
from tierwise.models.types import SequenceState, Weight
from tierwise.program.types import Op, Operand

# Keys that an indexer scores, with an fp32 scale for 128 of them: 132 bytes a token (vLLM, deepseek_v2.py,
# DeepseekV32IndexerCache).
INDEX_KEY = replace(fmt("fp8"), meta=32.0 / 128.0)


@dataclass(frozen=True)
class Indexer:
    """Chooses ``top_k`` past tokens per query from small keys of ``dim``, with ``heads`` query heads.

    ``full``: has its own weights and scores; otherwise it reuses an earlier layer's choice. ``masked``: an engine
    without sparse kernels attends to all past tokens, with those not chosen masked.
    """

    heads: Num
    dim: Num
    top_k: Num
    full: bool = True
    masked: bool = False

    @property
    def reach(self) -> Num | None:
        """Past tokens that attention works on at most; None for all."""
        return None if self.masked else self.top_k


@dataclass(frozen=True)
class MLA:
    """Keys and values live in one latent of ``kv_rank`` plus a shared rotary key of ``rope_dim``.

    Decoding absorbs the up-projections into the queries, so each head attends in the latent space
    (``kv_rank + rope_dim`` wide keys, ``kv_rank`` wide values); prefill expands keys and values per head.

    Attributes:
        q_rank: rank of the query projection, 0 when queries are projected directly.
        nope_dim, rope_dim, v_dim: per-head widths of the unrotated and rotated key parts, and of values.
        bias: on the two down-projections.
        by_head: keys and values are cached as expanded, for every head, and decoding attends to them as they are (an
            engine without a path for latents).
        latent_prompts: prompts attend in the latent space too (an engine with one path for both).
        window, density, budget, copied: as in :class:`tierwise.models.blocks.attention.Attention`, of latents.
    """

    hidden: Num
    heads: Num
    q_rank: Num
    kv_rank: Num
    nope_dim: Num
    rope_dim: Num
    v_dim: Num
    bias: bool = False
    indexer: Indexer | None = None
    by_head: bool = False
    latent_prompts: bool = False
    window: Num | None = None
    density: Num = 1.0
    budget: Num = float("inf")
    copied: int = 0
    name: str = "attn"

    def _down(self) -> list[Linear]:
        kv = Linear("kv_a_proj", self.hidden, self.kv_rank + self.rope_dim, self.bias)
        return [self._q_down(), kv] if self._has_q_rank else [kv]

    @property
    def _has_q_rank(self) -> bool:
        return not (isinstance(self.q_rank, (int, float)) and self.q_rank == 0)

    def _q_down(self) -> Linear:
        return Linear("q_a_proj", self.hidden, self.q_rank, self.bias)

    def _q_up(self) -> Linear:
        qk = self.nope_dim + self.rope_dim
        d_in = self.q_rank if self._has_q_rank else self.hidden
        return Linear("q_b_proj", d_in, self.heads * qk, split="out", grain=qk)

    def _kv_up(self) -> Linear:
        d = self.nope_dim + self.v_dim
        return Linear("kv_b_proj", self.kv_rank, self.heads * d, split="out", grain=d)

    def _o(self) -> Linear:
        return Linear("o_proj", self.heads * self.v_dim, self.hidden, self.bias, split="in", grain=self.v_dim)

    def _index(self) -> list[Linear]:
        ix = self.indexer
        if ix is None or not ix.full:
            return []
        d_in = self.q_rank if self._has_q_rank else self.hidden
        return [
            Linear("index_q", d_in, ix.heads * ix.dim),
            Linear("index_k", self.hidden, ix.dim),
            Linear("index_weight", self.hidden, ix.heads),
        ]

    def weights(self) -> Iterator[Weight]:
        for linear in (*self._down(), self._q_up(), self._kv_up(), self._o(), *self._index()):
            yield from linear.weights()
        yield Weight("kv_a_norm", self.kv_rank + (self.q_rank if self._has_q_rank else 0.0), "norm")
        if self.indexer is not None and self.indexer.full:
            yield Weight("index_norm", 2.0 * self.indexer.dim, "norm")

    def ops(self, step: Step) -> Iterator[Op]:
        t = step.tokens
        h = share(self.heads, 1.0, step.plan.tp)
        qk = self.nope_dim + self.rope_dim
        latent = self.kv_rank + self.rope_dim
        width = latent + (self.q_rank if self._has_q_rank else 0.0)
        yield matmul(step, f"{self.name}.down_proj", "attn", t, self._down(), "h", "c")
        cached = tuple(Operand(p.name, "kv", t * p.width, p.format) for p in self._parts(step))
        yield elementwise(step, f"{self.name}.norm_rope_cache", "attn", {"c": t * width}, {"c": t * width},
                          ROPE, cached)  # fmt: skip
        if step.phase == "decode":
            past = step.seqs * past_kept(step, self.window, self.budget) * self.density
            yield from [copy(step, self.name, self._parts(step), past)] * self.copied
        yield matmul(step, f"{self.name}.q_up", "attn", t, [self._q_up()], "c", "q")
        yield from self._index_ops(step)
        if (step.phase == "decode" or self.latent_prompts) and not self.by_head:
            yield self._absorb(step, "q_absorb", h, self.nope_dim, self.kv_rank, "q")
            yield self._core(step, h, latent, self.kv_rank, absorbed=True)
            yield self._absorb(step, "v_absorb", h, self.kv_rank, self.v_dim, "o")
        else:
            yield matmul(step, f"{self.name}.kv_up", "attn", t, [self._kv_up()], "c", "kv")
            yield self._core(step, h, qk, self.v_dim, absorbed=False)
        yield matmul(step, f"{self.name}.o_proj", "attn", t, [self._o()], "o", "y")
        yield from all_reduce(step, f"{self.name}.all_reduce", self.hidden, "y")

    def _absorb(self, step: Step, name: str, h: Num, d_in: Num, d_out: Num, source: str) -> Op:
        """One batched GEMM per head that moves queries into, or values out of, the latent space."""
        t, form = step.tokens, step.weight("attn")
        return Op(
            kind="matmul",
            name=f"{self.name}.{name}",
            role="attn",
            dims={"m": t, "n": d_out, "k": d_in, "batch": h},
            flops=2.0 * t * h * d_in * d_out,
            reads=(act(step, source, t * h * d_in), Operand(name + ".w", "weight", h * d_in * d_out, form)),
            writes=(act(step, source, t * h * d_out),),
            arithmetic=step.act.arithmetic,
        )

    def _core(self, step: Step, h: Num, qk: Num, v: Num, absorbed: bool) -> Op:
        past = past_read(step, self.window, self.budget)
        top_k = self.indexer.reach if self.indexer is not None else None
        reach = self.window if top_k is None else top_k if self.window is None else minimum(self.window, top_k)
        seen = step.but(past=past).seen_tokens(reach) * self.density
        if top_k is not None:
            past = minimum(past, top_k) if absorbed else past
        # A decode step attends in what is left of what is cached.
        rank = step.plan.kv.rank if absorbed or self.by_head else 1.0
        t = step.tokens
        fresh = 0.0 if step.phase == "decode" and (absorbed or self.by_head) else t * (qk if absorbed else h * (qk + v))
        each = 2.0 * h * self.kv_rank * (self.nope_dim + self.v_dim)
        cached = self._parts(step) if self.by_head else self._parts(step)[:1]
        expand = 0.0 if absorbed or self.by_head else step.seqs * past * self.density * each
        return Op(
            kind="attention",
            name=f"{self.name}.core",
            role="attn",
            dims={
                "batch": step.seqs, "heads": h, "kv_heads": 1.0 if absorbed else h, "q": step.new,
                "kv": seen / step.new, "head_dim": qk, "v_dim": v, "columns": past + step.new,
            },
            flops=2.0 * step.seqs * h * (qk + v) * seen * rank + expand,
            reads=(act(step, "q", t * h * qk), act(step, "kv", fresh),
                   *reads(step, cached, past, self.window, self.density)),
            writes=(act(step, "o", t * h * v),),
            arithmetic=step.act.arithmetic,
            options={"flash": step.plan.flash, "phase": step.phase},
        )  # fmt: skip

    def _index_ops(self, step: Step) -> Iterator[Op]:
        ix = self.indexer
        if ix is None or not ix.full:
            return
        t = step.tokens
        q, *rest = self._index()
        yield matmul(step, f"{self.name}.index_q", "attn", t, [q], "c", "iq")
        yield matmul(step, f"{self.name}.index_k", "attn", t, rest, "h", "ik")
        kept = past_kept(step, self.window, self.budget)
        seen = step.but(past=kept).seen_tokens(self.window)
        keys = Operand("index_k", "kv", step.seqs * kept * ix.dim, fmt("fp8"))
        yield Op(
            kind="attention",
            name=f"{self.name}.index",
            role="attn",
            dims={
                "batch": step.seqs, "heads": ix.heads, "kv_heads": 1.0, "q": step.new, "kv": seen / step.new,
                "head_dim": ix.dim, "v_dim": 0.0, "columns": step.past + step.new,
            },
            flops=2.0 * step.seqs * ix.heads * ix.dim * seen,
            reads=(act(step, "iq", t * ix.heads * ix.dim), keys),
            writes=(Operand("chosen", "act", t * minimum(ix.top_k, step.context), fmt("int32")),),
            arithmetic="fp8",
            options={"flash": True, "phase": step.phase},
        )  # fmt: skip

    def _parts(self, step: Step) -> list[CachedTensor]:
        latent, rank = self.kv_rank + self.rope_dim, step.plan.kv.rank
        if self.by_head:
            h = share(self.heads, 1.0, step.plan.tp)
            k, v = h * (self.nope_dim + self.rope_dim), h * self.v_dim
            parts = [CachedTensor("k_cache", k * rank, k, step.key), CachedTensor("v_cache", v * rank, v, step.value)]
        else:
            parts = [CachedTensor("latent", latent * rank, latent, step.key)]
        if self.indexer is not None and self.indexer.full:
            parts.append(CachedTensor("index_k", self.indexer.dim, self.indexer.dim, INDEX_KEY))
        return parts

    def state(self, step: Step) -> Iterator[SequenceState]:
        # A latent is shared by all heads, so tensor parallelism replicates it.
        yield from states(step, self._parts(step), self.window, self.density, self.budget)

    def facts(self) -> BlockFacts:
        refuses = {
            "remat": "its latent is already what keys and values are recomputed from",
            "expanded": "decoding attends in the latent, which all heads share: there are no keys to copy",
            "rebuilt": "its keys are already of low rank",
        }
        if self.indexer is not None:
            refuses |= dict.fromkeys(("read", "density"), "an indexer already chooses the tokens it reads")
        if self.by_head:
            qk = self.nope_dim + self.rope_dim
            return BlockFacts(self.heads, self.heads, qk, scores=True, cache=Cache("keys", refuses))
        return BlockFacts(self.heads, 1.0, self.kv_rank + self.rope_dim, scores=True, cache=Cache("latent", refuses))

    def adapted(self, policy: str, value: Any) -> MLA:
        found: MLA = revised(self, policy, value)
        return found
