"""Long short-term memory (Hochreiter and Schmidhuber, Neural Computation 9(8), 1997), as PyTorch arranges it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from tierwise.core.num import Num
from tierwise.models.blocks.cache import fixed_state
from tierwise.models.blocks.common import Linear, elementwise, matmul
from tierwise.models.facts import BlockFacts
from tierwise.models.step import Step
from tierwise.models.types import SequenceState, Weight
from tierwise.program.types import Op

# Vector operations an element of the state: three logistic gates and two tangents of an exponential, a division and two
# more each; three products and an addition.
_CELL = 24.0


@dataclass(frozen=True)
class LSTM:
    """One layer: four gates from the input, for all tokens at once, and from the layer's last output, token by token.

    Attributes:
        width, inner: of what it reads and of its state.
    """

    width: Num
    inner: Num
    name: str = "lstm"

    def _maps(self) -> tuple[Linear, Linear]:
        ends = (("weight_ih", self.width), ("weight_hh", self.inner))
        first, second = (Linear(n, d, 4.0 * self.inner, True, "ssm") for n, d in ends)
        return first, second

    def weights(self) -> Iterator[Weight]:
        for linear in self._maps():
            yield from linear.weights()

    def ops(self, step: Step) -> Iterator[Op]:
        t, (first, second) = step.tokens, self._maps()
        yield matmul(step, f"{self.name}.input", "ssm", t, [first], "h", "gates")
        again = matmul(step, f"{self.name}.recurrent", "ssm", t, [second], "state", "gates")
        # The weights are read for each token of a sequence again.
        reads = tuple(
            replace(r, elements=r.elements * step.new) if r.role == "weight" else r for r in again.reads
        )  # fmt: skip
        yield replace(again, reads=reads)
        size = t * self.inner
        yield elementwise(step, f"{self.name}.cell", "ssm", {"gates": 4.0 * size, "cell": size},
                          {"state": size, "cell": size}, _CELL / 2.0)  # fmt: skip

    def state(self, step: Step) -> Iterator[SequenceState]:
        yield fixed_state("lstm", step, 2.0 * self.inner, step.act)

    def facts(self) -> BlockFacts:
        return BlockFacts(state="lstm")
