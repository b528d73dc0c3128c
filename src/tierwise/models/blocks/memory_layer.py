"""A table of value vectors found by product keys (arXiv:1907.05242), as in memory layers (arXiv:2411.12364)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tierwise.core.num import Num
from tierwise.models.blocks.common import INDEX, ROUTE, Linear, Plain, act, all_reduce, elementwise, matmul, share
from tierwise.models.blocks.moe import distinct
from tierwise.models.step import Step
from tierwise.models.types import Weight
from tierwise.program.types import Op, Operand


@dataclass(frozen=True)
class MemoryLayer(Plain):
    """``side²`` slots, addressed by a row key and a column key: the best sums of two short lists of scores.

    Work grows with ``side``, memory with its square, and the bytes a token reads with neither. Tensor
    parallelism divides the width of the values.

    Attributes:
        hidden: width of the residual stream.
        side: keys in each of the two sets.
        key_dim: width of a key; ``value_dim`` of a slot.
        top_k: slots a token reads per head; ``heads`` queries, each with keys of its own over the same slots.
    """

    hidden: Num
    side: Num
    key_dim: Num
    value_dim: Num
    top_k: Num
    heads: Num = 1.0
    name: str = "memory"

    @property
    def slots(self) -> Num:
        return self.side**2

    def _query(self) -> Linear:
        return Linear("query", self.hidden, 2.0 * self.heads * self.key_dim, role="mlp")

    def _out(self) -> Linear:
        return Linear("memory_out", self.value_dim, self.hidden, role="mlp", split="in")

    def weights(self) -> Iterator[Weight]:
        yield from self._query().weights()
        yield Weight("keys", 2.0 * self.heads * self.side * self.key_dim, "router")
        yield Weight("values", self.slots * self.value_dim, "embed", "tp")
        yield from self._out().weights()

    def ops(self, step: Step) -> Iterator[Op]:
        t, chosen = step.tokens, step.tokens * self.heads * self.top_k
        yield matmul(step, f"{self.name}.query", "mlp", t, [self._query()], "h", "q")
        yield self._scores(step)
        # The best of each list, then the best of their top_k² sums.
        scores = 2.0 * t * self.heads * self.side
        yield elementwise(step, f"{self.name}.topk", "mlp", {"scores": scores}, {"choice": chosen}, ROUTE)
        yield self._gather(step, chosen)
        yield matmul(step, f"{self.name}.out", "mlp", t, [self._out()], "values", "y")
        yield from all_reduce(step, f"{self.name}.all_reduce", self.hidden, "y")

    def _scores(self, step: Step) -> Op:
        """Queries times both sets of keys, one product a head and set."""
        t, sets, form = step.tokens, 2.0 * self.heads, step.weight("router")
        keys = Operand(f"{self.name}.keys", "weight", sets * self.side * self.key_dim, form)
        return Op(
            kind="matmul",
            name=f"{self.name}.scores",
            role="mlp",
            dims={"m": t, "n": self.side, "k": self.key_dim, "batch": sets},
            flops=2.0 * t * sets * self.side * self.key_dim,
            reads=(act(step, "q", t * sets * self.key_dim), keys),
            writes=(act(step, "scores", t * sets * self.side),),
            arithmetic=step.act.arithmetic,
        )

    def _gather(self, step: Step, chosen: Num) -> Op:
        """The weighted sum of the chosen slots; one that several tokens choose is fetched once."""
        width = share(self.value_dim, 0.0, step.plan.tp)
        fetched = distinct(self.slots, self.heads * self.top_k, step.tokens)
        return Op(
            kind="embedding",
            name=f"{self.name}.gather",
            role="mlp",
            dims={"tokens": step.tokens, "width": width},
            flops=2.0 * chosen * width,
            reads=(
                Operand("choice", "act", chosen, INDEX),
                Operand(f"{self.name}.slots", "table", fetched * width, step.model.format_of("embed")),
            ),
            writes=(act(step, "values", step.tokens * width),),
            arithmetic="fp32",
        )
