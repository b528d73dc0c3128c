"""Softmax attention: multi-head, multi-query, grouped-query; sliding, chunked, cross, shared between layers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tierwise.core.num import Num, is_zero, minimum, where
from tierwise.models.blocks.cache import CachedTensor, copy, past_kept, past_read, reads, revised, states
from tierwise.models.blocks.common import GATE, ROPE, Linear, act, all_reduce, elementwise, matmul, share
from tierwise.models.facts import POLICIES, BlockFacts, Cache
from tierwise.models.step import Step
from tierwise.models.types import SequenceState, Weight
from tierwise.program.types import Op, Operand


@dataclass(frozen=True)
class Attention:
    """Multi-head attention with its projections.

    Attributes:
        hidden: width of the residual stream.
        heads, kv_heads, head_dim: as usual; ``v_dim`` when values are of another width.
        window: sliding window in tokens, or None; ``chunk``: attend inside aligned chunks of that size. With both, a
            token looks back the window as far as its chunk goes. Not causal, half the window lies on either side.
        causal: a token sees only those before it.
        qkv_bias, out_bias: biases.
        qk_norm: ``""``, ``head`` (one scale per channel of a head) or ``full`` (per channel of all heads).
        gate: an output gate of the queries' width is computed with them.
        source: ``self``; ``cross`` (keys and values from the encoder); ``shared`` (another layer's cache).
        pooled: beside its window, where it is not causal, a token attends to one key for every so many of all tokens.
        k_eq_v: values are what keys are before norm and rotation: one projection, and both are cached.
        density: fraction of the causal pairs computed, stored and read (static sparsity patterns).
        budget: at most this many tokens of this layer's cache are kept after the prompt, whatever the plan keeps.
        chosen: at most this many tokens are attended to, of all that are cached (an indexer's choice), or None.
        copied: how often a decode step writes the whole cache anew (frameworks that concatenate it with the new token).
        expanded: keys and values are copied to every query head of their group before use.
        extra: further parameters (sinks, relative-position tables).
        kv_hidden: width of what keys and values are projected from, when not ``hidden``.
        role: weight role (``attn``, or ``vision`` in an image tower).
    """

    hidden: Num
    heads: Num
    kv_heads: Num
    head_dim: Num
    v_dim: Num | None = None
    window: Num | None = None
    chunk: Num | None = None
    causal: bool = True
    qkv_bias: bool = False
    out_bias: bool = False
    qk_norm: str = ""
    gate: bool = False
    source: str = "self"
    pooled: Num = float("inf")
    k_eq_v: bool = False
    density: Num = 1.0
    budget: Num = float("inf")
    chosen: Num | None = None
    copied: int = 0
    expanded: bool = False
    extra: Num = 0.0
    kv_hidden: Num | None = None
    role: str = "attn"
    name: str = "attn"

    @property
    def value_dim(self) -> Num:
        return self.head_dim if self.v_dim is None else self.v_dim

    @property
    def span(self) -> Num | None:
        """The longest distance a token looks back, or None."""
        if self.window is None or self.chunk is None:
            return self.window if self.chunk is None else self.chunk
        return minimum(self.window, self.chunk)

    def _q(self) -> Linear:
        width = self.heads * self.head_dim * (2.0 if self.gate else 1.0)
        return Linear("q_proj", self.hidden, width, self.qkv_bias, self.role, "out", self.head_dim)

    def _kv(self) -> list[Linear]:
        if self.source == "shared":
            return []
        d_in = self.hidden if self.kv_hidden is None else self.kv_hidden
        widths = [("k_proj", self.head_dim)] + ([] if self.k_eq_v else [("v_proj", self.value_dim)])
        return [Linear(n, d_in, self.kv_heads * d, self.qkv_bias, self.role, "out", d) for n, d in widths]

    def _inputs(self) -> list[tuple[str, list[Linear]]]:
        """Products that make queries, keys and values of the stream: one, where all read the same width."""
        if self.kv_hidden is None or self.source == "shared":
            return [("qkv_proj", [self._q(), *self._kv()])]
        return [("q_proj", [self._q()]), ("kv_proj", self._kv())]

    def _o(self) -> Linear:
        width = self.heads * self.value_dim
        return Linear("o_proj", width, self.hidden, self.out_bias, self.role, "in", self.value_dim)

    def weights(self) -> Iterator[Weight]:
        for linear in (self._q(), *self._kv(), self._o()):
            yield from linear.weights()
        if self.qk_norm:
            q, k = (1.0, 1.0) if self.qk_norm == "head" else (self.heads, self.kv_heads)
            yield Weight("qk_norm", self.head_dim * (q + (0.0 if self.source == "shared" else k)), "norm")
        if not is_zero(self.extra):
            yield Weight("extra", self.extra, "norm")

    def local_heads(self, step: Step) -> tuple[Num, Num]:
        """(query heads, KV heads) on one device."""
        return share(self.heads, 1.0, step.plan.tp), share(self.kv_heads, 1.0, step.plan.tp)

    def ops(self, step: Step) -> Iterator[Op]:
        t = step.tokens
        h, g = self.local_heads(step)
        q_width = h * self.head_dim
        if self.source == "cross":
            yield matmul(step, f"{self.name}.q_proj", "attn", t, [self._q()], "h", "q")
            if step.fresh_encoder:
                m = step.seqs * step.encoder
                yield matmul(step, f"{self.name}.kv_proj", "attn", m, self._kv(), "enc", "ckv")
        else:
            for name, maps in self._inputs():
                yield matmul(step, f"{self.name}.{name}", "attn", t, maps, "h", "qkv")
            fresh = 0.0 if self.source == "shared" else g * (self.head_dim + (0.0 if self.k_eq_v else self.value_dim))
            cached = tuple(Operand(p.name, "kv", t * p.width, p.format) for p in self._parts(step, g))
            yield elementwise(step, f"{self.name}.rope_cache", "attn", {"qkv": t * (q_width + fresh)},
                              {"q": t * q_width}, ROPE, cached)  # fmt: skip
            if step.phase == "decode":
                past = step.seqs * past_kept(step, self._within(step), self.budget) * self.density
                yield from [copy(step, self.name, self._parts(step, g), past)] * self.copied
        if self.expanded:
            yield self._expand(step, h, g)
        yield self._core(step, h, h if self.expanded else g)
        if self.gate:
            o = t * h * self.value_dim
            yield elementwise(step, f"{self.name}.gate", "attn", {"o": o, "qkv": o}, {"o": o}, GATE)
        yield matmul(step, f"{self.name}.o_proj", "attn", t, [self._o()], "o", "y")
        yield from all_reduce(step, f"{self.name}.all_reduce", self.hidden, "y")

    def _core(self, step: Step, h: Num, g: Num) -> Op:
        """The attention itself: scores, softmax, weighted sum."""
        read, seen, columns = self._extent(step)
        past, seen = read * self.density, seen * self.density
        dims = self.head_dim + self.value_dim
        flops = 2.0 * step.seqs * h * dims * seen * self._rank(step)
        parts = self._parts(step, g) if self.source != "shared" else self._parts(step, g, shared=True)
        cached: tuple[Operand, ...] = ()
        if parts and self.source == "cross":
            cached = tuple(Operand(p.name, "kv", step.seqs * past * p.width, p.format) for p in parts)
        elif parts:
            cached = tuple(reads(step, parts, read, self._within(step), self.density))
        if self._remat(step):
            flops = flops + 2.0 * step.seqs * past * self.hidden * g * dims
        fresh = 0.0 if step.phase == "decode" or self.source == "cross" else step.tokens * g * dims
        return Op(
            kind="attention",
            name=f"{self.name}.core",
            role="attn",
            dims={
                "batch": step.seqs, "heads": h, "kv_heads": g, "q": step.new, "kv": seen / step.new,
                "head_dim": self.head_dim, "v_dim": self.value_dim, "columns": columns,
                "window": float("inf") if self._reach is None else self._reach,
            },
            flops=flops,
            reads=(act(step, "q", step.tokens * h * self.head_dim), act(step, "qkv", fresh), *cached),
            writes=(act(step, "o", step.tokens * h * self.value_dim),),
            arithmetic=step.act.arithmetic,
            options={"flash": step.plan.flash, "phase": step.phase},
        )  # fmt: skip

    def _expand(self, step: Step, h: Num, g: Num) -> Op:
        """Keys and values of each head written once for every query head that shares them."""
        past = past_kept(step, self._within(step), self.budget)
        tokens = step.seqs * (past * self.density + step.new)
        wide, own = (tuple(Operand(p.name, "kv", tokens * p.width, p.format) for p in self._parts(step, x, True))
                     for x in (h, g))  # fmt: skip
        return Op("elementwise", f"{self.name}.expand_heads", "attn", {"elements": tokens}, 0.0, own, wide, "fp32")

    def _extent(self, step: Step) -> tuple[Num, Num, Num]:
        """(cached tokens read, pairs attended, score columns a query has when scores are written out)."""
        new = step.new
        if self.source == "cross":
            return step.encoder, new * step.encoder, step.encoder
        if not self.causal:
            return 0.0, new * self._both_ways(new * step.ranks), new * step.ranks
        past, reach = past_read(step, self._within(step), self.budget), self._reach
        if self.chosen is not None:
            past = minimum(past, self.chosen)
        if self.chunk is None or reach is None:
            return past, step.but(past=past).seen_tokens(reach), past + new
        chunk = self.chunk
        whole = new * (reach * (reach + 1.0) / 2.0 + (chunk - reach) * reach) / chunk
        part = new * past + new * (minimum(new, chunk) + 1.0) / 2.0
        return past, where(new >= chunk, whole, minimum(part, new * reach)), past + new

    def _both_ways(self, length: Num) -> Num:
        """Mean tokens that one of a sequence attends to where it also sees those behind it: half a window either way,
        cut at the ends, or its whole aligned chunk."""
        if self.chunk is not None:
            return minimum(length, self.chunk)
        if self.window is None:
            return length
        half = minimum((self.window - 1.0) / 2.0, length - 1.0)
        return 1.0 + 2.0 * half - half * (half + 1.0) / length + length / self.pooled

    @property
    def _reach(self) -> Num | None:
        """The most tokens a query attends to, or None."""
        if self.span is None or self.chosen is None:
            return self.chosen if self.span is None else self.span
        return minimum(self.span, self.chosen)

    def _within(self, step: Step) -> Num:
        """Past tokens that a new one looks back at, before any policy."""
        if self.chunk is None or self.span is None:
            return step.past if self.span is None else minimum(step.past, self.span)
        # Aligned chunks: a token sees on average half a chunk back. With a window, one at place i of its chunk sees
        # min(i, window), whose mean is that below, and half a chunk where the window is as long.
        far, mean = step.past + step.new > self.chunk, self.span - self.span**2 / (2.0 * self.chunk)
        return where(far, minimum(step.past, mean), minimum(step.past, self.span))

    def _remat(self, step: Step) -> bool:
        return step.plan.kv.remat and self.source != "cross" and self.causal and step.phase == "decode"

    def _rank(self, step: Step) -> Num:
        return step.plan.kv.rank if self.source != "cross" and self.causal else 1.0

    def _parts(self, step: Step, g: Num, shared: bool = False) -> list[CachedTensor]:
        """The cached tensors of one token on one device."""
        if not self.causal or (self.source == "shared" and not shared):
            return []
        k, v = g * self.head_dim, g * self.value_dim
        if self.source == "cross":
            return [CachedTensor("cross_k", k, k, step.act), CachedTensor("cross_v", v, v, step.act)]
        if step.plan.kv.remat:
            # Keys and values are recomputed from the layer's input, which is stored in their place.
            return [CachedTensor("x_cache", self.hidden, self.hidden, step.key)]
        rank = self._rank(step)
        return [CachedTensor("k_cache", k * rank, k, step.key), CachedTensor("v_cache", v * rank, v, step.value)]

    def state(self, step: Step) -> Iterator[SequenceState]:
        _, g = self.local_heads(step)
        parts = self._parts(step, g)
        if self.source == "cross":
            for p in parts:
                yield SequenceState(p.name, "kv", step.encoder * p.width, p.format)
        elif parts:
            yield from states(step, parts, self.span, self.density, self.budget)

    def facts(self) -> BlockFacts:
        return BlockFacts(self.heads, self.kv_heads, self.head_dim, scores=True, cache=self._cache())

    def _cache(self) -> Cache | None:
        if not self.causal:
            return None
        if self.source == "cross":
            return Cache("cross", dict.fromkeys(POLICIES, "an encoder's keys and values are kept as they are computed"))
        refuses = {}
        if self.source == "shared":
            refuses = dict.fromkeys(("copied", "rebuilt"), "it reads the cache of an earlier layer")
        if np.all(np.asarray(self.heads) == self.kv_heads):
            refuses["expanded"] = "every query head has keys and values of its own"
        if self.expanded:
            refuses["remat"] = "keys and values are copied to every query head before use"
        for name, differs, why in (
            ("copied", self.copied > 0, "its cache is written anew each step"),
            ("expanded", self.expanded, "keys and values are copied to every query head before use"),
            ("density", not is_zero(1.0 - self.density), "a static pattern chooses what it stores"),
            ("budget", bool(np.any(np.isfinite(self.budget))), "a budget limits its cache"),
        ):
            if differs and name not in refuses:
                refuses.setdefault("rebuilt", why)
        return Cache("shared" if self.source == "shared" else "keys", refuses)

    def adapted(self, policy: str, value: Any) -> Attention:
        found: Attention = revised(self, policy, value)
        return found
