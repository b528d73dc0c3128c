"""Gated short convolutions in place of attention (LFM2, Liquid AI 2025; `transformers` models/lfm2)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tierwise.core.num import Num
from tierwise.models.blocks.cache import fixed_state
from tierwise.models.blocks.common import Linear, all_reduce, elementwise, matmul, share
from tierwise.models.blocks.conv import causal_conv
from tierwise.models.facts import BlockFacts
from tierwise.models.step import Step
from tierwise.models.types import SequenceState, Weight
from tierwise.program.types import Op


@dataclass(frozen=True)
class ShortConv:
    """``out(C · conv(B · x))``, where ``B``, ``C`` and ``x`` are projections of the layer's input.

    Tensor parallelism divides the channels.

    Attributes:
        hidden: width of the residual stream and of the convolution, one filter a channel.
        taps: of the causal convolution; a sequence keeps the last ``taps - 1`` inputs.
        bias: of projections and convolution.
    """

    hidden: Num
    taps: Num = 3.0
    bias: bool = False
    name: str = "conv"

    def _in(self) -> Linear:
        return Linear("in_proj", self.hidden, 3.0 * self.hidden, self.bias, "ssm", "out")

    def _out(self) -> Linear:
        return Linear("out_proj", self.hidden, self.hidden, self.bias, "ssm", "in")

    def weights(self) -> Iterator[Weight]:
        yield from self._in().weights()
        yield Weight("conv1d", self.hidden * (self.taps + float(self.bias)), "conv", "tp")
        yield from self._out().weights()

    def ops(self, step: Step) -> Iterator[Op]:
        t, d = step.tokens, share(self.hidden, 0.0, step.plan.tp)
        yield matmul(step, f"{self.name}.in_proj", "ssm", t, [self._in()], "h", "bcx")
        yield elementwise(step, f"{self.name}.gate_in", "ssm", {"bcx": 2.0 * t * d}, {"xz": t * d}, 1.0)
        yield causal_conv(step, f"{self.name}.conv1d", d, self.taps, target="conv.y")
        yield elementwise(step, f"{self.name}.gate_out", "ssm", {"conv.y": t * d, "bcx": t * d}, {"o": t * d}, 1.0)
        yield matmul(step, f"{self.name}.out_proj", "ssm", t, [self._out()], "o", "y")
        yield from all_reduce(step, f"{self.name}.all_reduce", self.hidden, "y")

    def state(self, step: Step) -> Iterator[SequenceState]:
        yield fixed_state("conv_state", step, share(self.hidden, 0.0, step.plan.tp) * (self.taps - 1.0), step.act)

    def facts(self) -> BlockFacts:
        return BlockFacts(state="conv_state")
