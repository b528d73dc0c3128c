"""The recurrent block of Griffin: a gated linear recurrence beside a GeLU branch (arXiv:2402.19427, section 2.4)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tierwise.core.num import Num
from tierwise.core.numerics import fmt
from tierwise.models.blocks.common import GATE, Linear, all_reduce, elementwise, matmul, share
from tierwise.models.blocks.conv import causal_conv, recurrent_state
from tierwise.models.blocks.scan import scan
from tierwise.models.facts import BlockFacts
from tierwise.models.step import Step
from tierwise.models.types import SequenceState, Weight
from tierwise.program.types import Op

_FP32 = fmt("fp32")


@dataclass(frozen=True)
class RGLRU:
    """``out(gelu(y x) * lru(conv(x x)))``: every channel decays by its own learned rate and two gates of the input.

    Tensor parallelism divides the channels by whole blocks of the gates.

    Attributes:
        hidden, width: of the residual stream and of the recurrence.
        blocks: of the block-diagonal maps that compute the gates.
        conv: taps of the causal convolution.
    """

    hidden: Num
    width: Num
    blocks: Num
    conv: Num = 4.0
    name: str = "rglru"

    @property
    def _block(self) -> Num:
        return self.width / self.blocks

    def _in(self) -> list[Linear]:
        return [Linear(n, self.hidden, self.width, True, "ssm", "out", self._block) for n in ("linear_y", "linear_x")]

    def _gates(self) -> Linear:
        # A block reads and writes its own channels: as many parameters and products as one narrow, tall map.
        return Linear("gates", self._block, 2.0 * self.width, True, "ssm", "out", 2.0 * self._block)

    def _out(self) -> Linear:
        return Linear("linear_out", self.width, self.hidden, True, "ssm", "in", self._block)

    def weights(self) -> Iterator[Weight]:
        for linear in (*self._in(), self._gates(), self._out()):
            yield from linear.weights()
        yield Weight("conv1d", self.width * (self.conv + 1.0), "conv", "tp")
        yield Weight("recurrent_param", self.width, "norm", "tp")

    def ops(self, step: Step) -> Iterator[Op]:
        t = step.tokens
        d = share(self.width, self._block, step.plan.tp)
        yield matmul(step, f"{self.name}.in_proj", "ssm", t, self._in(), "h", "xz")
        yield causal_conv(step, f"{self.name}.conv1d", d, self.conv)
        yield matmul(step, f"{self.name}.gates", "ssm", t, [self._gates()], "scan.v", "scan.decay")
        yield scan(step, f"{self.name}.scan", "selective", d, 1.0, 1.0, groups=0.0, decays=d, gates=d, parameters=d,
                   state_format=_FP32)  # fmt: skip
        yield elementwise(step, f"{self.name}.gate", "ssm", {"scan.y": t * d, "xz": t * d}, {"o": t * d}, GATE)
        yield matmul(step, f"{self.name}.linear_out", "ssm", t, [self._out()], "o", "y")
        yield from all_reduce(step, f"{self.name}.all_reduce", self.hidden, "y")

    def state(self, step: Step) -> Iterator[SequenceState]:
        d = share(self.width, self._block, step.plan.tp)
        yield from recurrent_state(step, d, 1.0, 1.0, _FP32, d, self.conv)

    def facts(self) -> BlockFacts:
        return BlockFacts(heads=self.blocks, state="ssm_state")
