"""Feed-forward blocks: plain and gated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tierwise.core.num import Num
from tierwise.models.blocks.common import ACTIVATION, Linear, Plain, all_reduce, elementwise, matmul, share
from tierwise.models.step import Step
from tierwise.models.types import Weight
from tierwise.program.types import Op


@dataclass(frozen=True)
class MLP(Plain):
    """``down(act(up x))``, or ``down(act(gate x) * up x)`` when ``gated``.

    Attributes:
        hidden, inner: widths.
        gated: two input projections instead of one.
        bias: on every projection.
        role: weight role (``mlp``, ``vision``).
    """

    hidden: Num
    inner: Num
    gated: bool = True
    bias: bool = False
    role: str = "mlp"
    name: str = "mlp"

    def _up(self) -> list[Linear]:
        names = ("gate_proj", "up_proj") if self.gated else ("up_proj",)
        return [Linear(n, self.hidden, self.inner, self.bias, self.role, "out") for n in names]

    def _down(self) -> Linear:
        return Linear("down_proj", self.inner, self.hidden, self.bias, self.role, "in")

    def weights(self) -> Iterator[Weight]:
        for linear in (*self._up(), self._down()):
            yield from linear.weights()

    def ops(self, step: Step) -> Iterator[Op]:
        t = step.tokens
        inner = t * share(self.inner, 0.0, step.plan.tp)
        yield matmul(step, f"{self.name}.up", "mlp", t, self._up(), "h", "u")
        yield elementwise(step, f"{self.name}.act", "mlp", {"u": inner * (2.0 if self.gated else 1.0)},
                          {"a": inner}, ACTIVATION)  # fmt: skip
        yield matmul(step, f"{self.name}.down", "mlp", t, [self._down()], "a", "y")
        yield from all_reduce(step, f"{self.name}.all_reduce", self.hidden, "y")
