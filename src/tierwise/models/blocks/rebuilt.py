"""Attention whose keys are rebuilt from a low-rank copy and whose values wait in the host's memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from tierwise.core.num import Num, minimum
from tierwise.core.numerics import Format
from tierwise.models.blocks.attention import Attention
from tierwise.models.blocks.cache import CachedTensor, mixed, past_kept, states
from tierwise.models.blocks.common import act, elementwise
from tierwise.models.facts import BlockFacts, Cache
from tierwise.models.step import Step
from tierwise.models.types import Block, SequenceState, Weight
from tierwise.program.types import Op, Operand

# Vector operations a score: widened, scaled, maximum, difference, exponential, sum, division, narrowed.
_SOFTMAX = 8.0
# And a landmark, for each KV head: a comparison, two selections (score and index), one pass more to merge.
_SELECT = 4.0


def rebuilt(block: Block, rank: Num, chunk: Num, budget: Num, kept: Num, hit: Num) -> Block:
    """Attention with keys rebuilt, where its facts do not refuse it; any other block as it is."""
    cache = block.facts().cache
    if not isinstance(block, Attention) or cache is None or "rebuilt" in cache.refuses:
        return block
    return RebuiltAttention(block, rank, chunk, budget, kept, hit)


@dataclass(frozen=True)
class RebuiltAttention:
    """Each decode step scores chunks of tokens by one landmark each and attends to those that score best: their keys
    are multiplied out of a low-rank copy on the device, their values gathered from the host.

    Attributes:
        attn: the attention itself, with its projections; prompts run through it unchanged.
        rank: of the copy of all heads' keys, shared by a sequence.
        chunk: tokens of one landmark.
        budget: tokens chosen each step, by each KV head for itself.
        kept: tokens whose keys and values never leave the device (outliers and the newest).
        hit: fraction of the chosen tokens that the step before had chosen as well: still on the device.

    A KV format applies to the low-rank keys, the landmarks and the values; keys that were multiplied out are kept in
    the activations' format. The factorisation after the prompt and the transfer of its values to the host are not
    priced, nor is the host's memory held against its capacity.
    """

    attn: Attention
    rank: Num
    chunk: Num
    budget: Num
    kept: Num
    hit: Num

    @property
    def hidden(self) -> Num:
        return self.attn.hidden

    def weights(self) -> Iterator[Weight]:
        yield from self.attn.weights()

    def ops(self, step: Step) -> Iterator[Op]:
        for op in self.attn.ops(step):
            if step.phase == "decode" and op.name == f"{self.attn.name}.core":
                yield from self._sparse(step)
            else:
                yield op

    def _sparse(self, step: Step) -> Iterator[Op]:
        a, name = self.attn, self.attn.name
        h, g = a.local_heads(step)
        t, landmarks = step.tokens, self._there(step) / self.chunk
        scores = t * h * landmarks
        # A product of its own for each sequence and KV head, whose result is written out to be ranked.
        yield Op(
            kind="matmul", name=f"{name}.landmarks", role="attn",
            dims={"m": step.new * h / g, "n": landmarks, "k": a.head_dim, "batch": step.seqs * g},
            flops=2.0 * scores * a.head_dim,
            reads=(act(step, "q", t * h * a.head_dim),
                   Operand("landmarks", "kv", step.seqs * landmarks * g * a.head_dim, self._key(step))),
            writes=(act(step, "scores", scores),),
            arithmetic=step.act.arithmetic,
        )  # fmt: skip
        # Softmax; the most any query head of a group gives a chunk; the best chunks of each KV head.
        yield elementwise(step, f"{name}.softmax", "attn", {"scores": scores}, {"scores": scores}, _SOFTMAX)
        yield elementwise(step, f"{name}.group_max", "attn", {"scores": scores}, {"best": t * g * landmarks})
        yield elementwise(step, f"{name}.top_k", "attn", {"best": t * g * landmarks},
                          {"chosen": t * g * self.budget / self.chunk}, _SELECT, kind="select")  # fmt: skip
        yield self._fetch(step, g)
        yield self._core(step, h, g)

    def _there(self, step: Step) -> Num:
        """Past tokens there are to choose from, after eviction and within a window."""
        return past_kept(step, self.attn.span)

    def _chosen(self, step: Step) -> Num:
        return minimum(self.budget, self._there(step))

    def _key(self, step: Step) -> Format:
        return mixed(step, step.key, self._there(step))

    def _value(self, step: Step) -> Format:
        return mixed(step, step.value, self._there(step))

    def _fetch(self, step: Step, g: Num) -> Op:
        """Keys multiplied out and values gathered for tokens newly chosen; what is still there moves up in its
        buffer."""
        a = self.attn
        chosen = step.tokens * g * self._chosen(step)
        fresh, old = chosen * (1.0 - self.hit), chosen * self.hit
        basis = step.seqs * g * self.rank * a.head_dim
        return Op(
            kind="fetch", name=f"{a.name}.fetch", role="attn",
            dims={"batch": step.seqs, "kv_heads": g, "tokens": fresh, "rank": self.rank},
            flops=2.0 * fresh * self.rank * a.head_dim,
            reads=(act(step, "chosen", step.tokens * g * self.budget / self.chunk),
                   Operand("values", "host", fresh * a.value_dim, self._value(step)),
                   Operand("low_rank", "kv", fresh * self.rank + basis, self._key(step)),
                   Operand("buffer_k", "kv", old * a.head_dim, step.act),
                   Operand("buffer_v", "kv", old * a.value_dim, self._value(step))),
            # Keys are multiplied out in the activations' format, values stay as they are stored.
            writes=(Operand("buffer_k", "kv", chosen * a.head_dim, step.act),
                    Operand("buffer_v", "kv", chosen * a.value_dim, self._value(step))),
            arithmetic=step.act.arithmetic,
        )  # fmt: skip

    def _core(self, step: Step, h: Num, g: Num) -> Op:
        a, t = self.attn, step.tokens
        seen = minimum(self._chosen(step) + self.kept, self._there(step)) + step.new
        cached = step.seqs * seen * g
        return Op(
            kind="attention", name=f"{a.name}.core", role="attn",
            dims={"batch": step.seqs, "heads": h, "kv_heads": g, "q": step.new, "kv": seen, "head_dim": a.head_dim,
                  "v_dim": a.value_dim, "columns": seen, "window": float("inf")},
            flops=2.0 * t * h * (a.head_dim + a.value_dim) * seen,
            reads=(act(step, "q", t * h * a.head_dim), Operand("buffer_k", "kv", cached * a.head_dim, step.act),
                   Operand("buffer_v", "kv", cached * a.value_dim, self._value(step))),
            writes=(act(step, "o", t * h * a.value_dim),),
            arithmetic=step.act.arithmetic, options={"flash": step.plan.flash, "phase": step.phase},
        )  # fmt: skip

    def state(self, step: Step) -> Iterator[SequenceState]:
        """What stays on the device: the low-rank keys, landmarks, and the buffer a step attends to."""
        a = self.attn
        _, g = a.local_heads(step)
        low = CachedTensor("low_rank", self.rank, self.rank, step.key)
        marks = CachedTensor("landmarks", g * a.head_dim / self.chunk, g * a.head_dim / self.chunk, step.key)
        yield from states(step, [low, marks], a.span)
        within = step.context if a.span is None else minimum(step.context, a.span)
        held = minimum(self.budget + self.kept, step.plan.kv.stored(within))
        yield SequenceState("basis", "kv", g * self.rank * a.head_dim, self._key(step))
        yield SequenceState("buffer_k", "kv", held * g * a.head_dim, step.act)
        yield SequenceState("buffer_v", "kv", held * g * a.value_dim, self._value(step))

    def facts(self) -> BlockFacts:
        low, chosen = "its keys are already rebuilt from a low-rank copy", "it already chooses the tokens it reads"
        refuses = {
            "rank": low, "remat": low, "rebuilt": low, "read": chosen, "density": chosen, "budget": chosen,
            "copied": "its cache is kept in place", "expanded": "its kernels read keys and values by group",
            "relay": "each sequence reads tokens of its own choice",
        }  # fmt: skip
        return replace(self.attn.facts(), cache=Cache("rebuilt", refuses))

    def adapted(self, policy: str, value: Any) -> RebuiltAttention:
        return replace(self, attn=self.attn.adapted(policy, value))
