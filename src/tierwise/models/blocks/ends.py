"""What stands before and after the layers: embeddings and output heads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from tierwise.core.num import Num
from tierwise.models.blocks.common import INDEX, Linear, Plain, act, collective, elementwise, matmul
from tierwise.models.facts import BlockFacts
from tierwise.models.step import Step
from tierwise.models.types import SequenceState, Weight
from tierwise.program.types import Op, Operand


@dataclass(frozen=True)
class Embedding(Plain):
    """A table of ``rows`` vectors of ``width``; tokens gather one row each (position tables add theirs).

    Attributes:
        tied: the table is another block's.
    """

    rows: Num
    width: Num
    name: str = "embed"
    tied: bool = False

    def weights(self) -> Iterator[Weight]:
        if not self.tied:
            yield Weight(self.name, self.rows * self.width, "embed", "tp", sides=(self.rows, self.width))

    def ops(self, step: Step) -> Iterator[Op]:
        size = step.tokens * self.width
        table = Operand(self.name, "table", size, step.model.format_of("embed"))
        yield Op(
            kind="embedding",
            name=self.name,
            role="embed",
            dims={"tokens": step.tokens, "width": self.width},
            flops=0.0,
            reads=(Operand("ids", "act", step.tokens, INDEX), table),
            writes=(act(step, "x", size),),
            arithmetic="fp32",
        )


@dataclass(frozen=True)
class Head:
    """The output projection to ``rows`` logits, and picking a token from them.

    Attributes:
        tied: its matrix is the embedding's (read in full, but no parameters of its own).
        every: logits for every token (encoders) instead of the last of a sequence.
        pooled: one output per sequence (classifiers).
        prompt: logits of every token of a prompt, though only the last is used.
        split: what tensor parallelism divides: ``out``, or ``none`` for a whole copy on every device.
    """

    width: Num
    rows: Num
    tied: bool = False
    bias: bool = False
    every: bool = False
    pooled: bool = False
    prompt: bool = False
    split: str = "out"
    name: str = "head"

    def _linear(self) -> Linear:
        return Linear(self.name, self.width, self.rows, self.bias, "head", self.split, tied=self.tied)

    def weights(self) -> Iterator[Weight]:
        return self._linear().weights()

    def ops(self, step: Step) -> Iterator[Op]:
        m = step.tokens if self.every or self.prompt else step.seqs if self.pooled else step.seqs * step.logits
        yield matmul(step, self.name, "head", m, [self._linear()], "h", "logits")
        rows = self._linear().local(step)[1]
        if self.split == "out":
            yield from collective(step, f"{self.name}.all_gather", "all_gather", m * self.rows, step.plan.tp, "logits")
        if not self.every and not self.pooled:
            yield elementwise(step, "sample", "head", {"logits": m * rows}, {"token": m}, 1.0)

    def state(self, step: Step) -> Iterable[SequenceState]:
        return ()

    def facts(self) -> BlockFacts:
        last = not (self.every or self.pooled or self.prompt)
        return BlockFacts(tied=self.rows * self.width if self.tied else 0.0, last_only=last)

    def adapted(self, policy: str, value: Any) -> Head:
        """``logits``: of every token of a prompt; or a field by its name."""
        return replace(self, **{"prompt" if policy == "logits" else policy: value})
