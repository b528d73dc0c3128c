"""Attention whose keys are rebuilt from a low-rank copy and whose values wait in the host's memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tierwise.core.num import Num, maximum, minimum
from tierwise.models.blocks.attention import Attention
from tierwise.models.blocks.common import act, elementwise
from tierwise.models.step import Step
from tierwise.models.types import State, Weight
from tierwise.program.types import Op, Operand


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

    The factorisation after the prompt and the transfer of its values to the host are not priced, nor is the host's
    memory held against its capacity.
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
        t, landmarks = step.tokens, step.past / self.chunk
        scores = t * h * landmarks
        # A product of its own for each sequence and KV head, whose result is written out to be ranked.
        yield Op(
            kind="matmul", name=f"{name}.landmarks", role="attn",
            dims={"m": step.new * h / g, "n": landmarks, "k": a.head_dim, "batch": step.seqs * g},
            flops=2.0 * scores * a.head_dim,
            reads=(act(step, "q", t * h * a.head_dim),
                   Operand("landmarks", "kv", step.seqs * landmarks * g * a.head_dim, step.act)),
            writes=(act(step, "scores", scores),),
            arithmetic=step.act.arithmetic,
        )  # fmt: skip
        # Softmax; the most any query head of a group gives a chunk; the best chunks of each KV head.
        yield elementwise(step, f"{name}.softmax", "attn", {"scores": scores}, {"scores": scores}, 8.0)
        yield elementwise(step, f"{name}.group_max", "attn", {"scores": scores}, {"best": t * g * landmarks})
        yield elementwise(step, f"{name}.top_k", "attn", {"best": t * g * landmarks},
                          {"chosen": t * g * self.budget / self.chunk}, 4.0, kind="select")  # fmt: skip
        yield self._fetch(step, g)
        yield self._core(step, h, g)

    def _chosen(self, step: Step) -> Num:
        return minimum(self.budget, step.past)

    def _fetch(self, step: Step, g: Num) -> Op:
        """Keys multiplied out and values gathered for tokens newly chosen; what is still there moves up in its
        buffer."""
        a = self.attn
        chosen = step.tokens * g * self._chosen(step)
        fresh, old = chosen * (1.0 - self.hit), chosen * self.hit
        wide = a.head_dim + a.value_dim
        basis = step.seqs * g * self.rank * a.head_dim
        return Op(
            kind="fetch", name=f"{a.name}.fetch", role="attn",
            dims={"batch": step.seqs, "kv_heads": g, "tokens": fresh, "rank": self.rank},
            flops=2.0 * fresh * self.rank * a.head_dim,
            reads=(act(step, "chosen", step.tokens * g * self.budget / self.chunk),
                   Operand("values", "host", fresh * a.value_dim, step.act),
                   Operand("low_rank", "kv", fresh * self.rank + basis, step.act),
                   Operand("buffer", "kv", old * wide, step.act)),
            writes=(Operand("buffer", "kv", chosen * wide, step.act),),
            arithmetic=step.act.arithmetic,
        )  # fmt: skip

    def _core(self, step: Step, h: Num, g: Num) -> Op:
        a, t = self.attn, step.tokens
        seen = minimum(self._chosen(step) + self.kept, step.past) + step.new
        cached = step.seqs * seen * g
        return Op(
            kind="attention", name=f"{a.name}.core", role="attn",
            dims={"batch": step.seqs, "heads": h, "kv_heads": g, "q": step.new, "kv": seen, "head_dim": a.head_dim,
                  "v_dim": a.value_dim, "columns": seen, "window": float("inf")},
            flops=2.0 * t * h * (a.head_dim + a.value_dim) * seen,
            reads=(act(step, "q", t * h * a.head_dim), Operand("buffer_k", "kv", cached * a.head_dim, step.act),
                   Operand("buffer_v", "kv", cached * a.value_dim, step.act)),
            writes=(act(step, "o", t * h * a.value_dim),),
            arithmetic=step.act.arithmetic, options={"flash": step.plan.flash, "phase": step.phase},
        )  # fmt: skip

    def state(self, step: Step) -> Iterator[State]:
        """What stays on the device: the low-rank keys, landmarks, and the buffer a step attends to."""
        a = self.attn
        _, g = a.local_heads(step)
        context = step.context
        yield State("low_rank", "kv", maximum(context, 0.0) * self.rank + g * self.rank * a.head_dim, step.act)
        yield State("landmarks", "kv", context / self.chunk * g * a.head_dim, step.act)
        yield State("buffer", "kv", minimum(self.budget + self.kept, context) * g * (a.head_dim + a.value_dim),
                    step.act)  # fmt: skip
