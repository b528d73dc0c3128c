"""Causal convolutions over queries and keys before attention (compressed convolutional attention, arXiv:2510.04476)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tierwise.core.num import Num
from tierwise.models.blocks.cache import fixed_state
from tierwise.models.blocks.common import Linear, matmul, share
from tierwise.models.blocks.conv import causal_conv
from tierwise.models.facts import BlockFacts
from tierwise.models.step import Step
from tierwise.models.types import SequenceState, Weight
from tierwise.program.types import Op


@dataclass(frozen=True)
class HeadConv:
    """One filter a channel of queries and keys, then one that mixes the channels of a head (`transformers`
    models/zaya: conv_qk); both have a bias.

    Tensor parallelism divides the heads.

    Attributes:
        hidden: width of the residual stream, of which a sequence keeps its last position.
        heads, head_dim: of queries and keys together.
        taps, mixing: of the two convolutions.
        extra: further parameters (a temperature a key head, scales of the residual).
    """

    hidden: Num
    heads: Num
    head_dim: Num
    taps: Num = 2.0
    mixing: Num = 2.0
    extra: Num = 0.0
    name: str = "conv_qk"

    @property
    def channels(self) -> Num:
        return self.heads * self.head_dim

    def _mixing(self) -> Linear:
        return Linear("conv_grouped", self.head_dim * self.mixing, self.channels, True, "conv", "out", self.head_dim)

    def weights(self) -> Iterator[Weight]:
        yield Weight("conv_depthwise", self.channels * (self.taps + 1.0), "conv", "tp")
        yield from self._mixing().weights()
        yield Weight("extra", self.extra, "norm")

    def ops(self, step: Step) -> Iterator[Op]:
        d = share(self.channels, self.head_dim, step.plan.tp)
        yield causal_conv(step, f"{self.name}.depthwise", d, self.taps, target="qk")
        yield matmul(step, f"{self.name}.grouped", "attn", step.tokens, [self._mixing()], "qk", "qk")

    def state(self, step: Step) -> Iterator[SequenceState]:
        d = share(self.channels, self.head_dim, step.plan.tp)
        kept = d * (self.taps + self.mixing - 2.0) + self.hidden
        yield fixed_state("conv_state", step, kept, step.act)

    def facts(self) -> BlockFacts:
        return BlockFacts(state="conv_state")
