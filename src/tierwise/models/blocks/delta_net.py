"""Gated DeltaNet (arXiv:2412.06464), as in Qwen3-Next and Qwen3.5, and Kimi Delta Attention (arXiv:2510.26692)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tierwise.core.num import Num, is_zero
from tierwise.core.numerics import Format
from tierwise.models.blocks.common import GATED_NORM, Linear, all_reduce, elementwise, matmul, share
from tierwise.models.blocks.conv import causal_conv, recurrent_state
from tierwise.models.blocks.scan import scan
from tierwise.models.facts import BlockFacts
from tierwise.models.step import Step
from tierwise.models.types import SequenceState, Weight
from tierwise.program.types import Op


@dataclass(frozen=True)
class GatedDeltaNet:
    """Short convolution over q, k, v; the gated delta rule; a gated norm; the output projection.

    Attributes:
        hidden: width of the residual stream.
        key_heads, value_heads: several value heads share the queries and keys of one key head.
        key_dim, value_dim: widths per head; a value head's state is their product.
        conv: taps of the convolution (it has no bias).
        chunk: tokens per chunk of the prompt's chunked form.
        by_channel: a decay for every key channel in place of one a head (Kimi Delta Attention).
        rank: bottleneck that the output gate and decays by channel come through; 0 for none.
        state_format: storage of the state; the activations' format by default.
    """

    hidden: Num
    key_heads: Num
    value_heads: Num
    key_dim: Num
    value_dim: Num
    conv: Num = 4.0
    chunk: Num = 64.0
    by_channel: bool = False
    rank: Num = 0.0
    state_format: Format | None = None
    name: str = "delta"

    def _in(self) -> list[Linear]:
        keys, values = self.key_heads * self.key_dim, self.value_heads * self.value_dim
        parts = [
            ("q", keys, self.key_dim),
            ("k", keys, self.key_dim),
            ("v", values, self.value_dim),
            ("b", self.value_heads, 1.0),
        ]
        if is_zero(self.rank):
            parts += [("z", values, self.value_dim), ("a", self._decays, self._decays / self.value_heads)]
        return [Linear(f"in_proj.{n}", self.hidden, w, role="ssm", split="out", grain=grain) for n, w, grain in parts]

    @property
    def _decays(self) -> Num:
        return self.value_heads * (self.key_dim if self.by_channel else 1.0)

    def _narrow(self) -> list[Linear]:
        """Down into the bottlenecks of gate and decay, and up from each."""
        if is_zero(self.rank):
            return []
        widths = (("z", self.value_heads * self.value_dim), ("a", self._decays))
        return [Linear("in_proj.za_down", self.hidden, 2.0 * self.rank, role="ssm"),
                *(Linear(f"in_proj.{n}_up", self.rank, w, False, "ssm", "out", w / self.value_heads)
                  for n, w in widths)]  # fmt: skip

    def _out(self) -> Linear:
        return Linear(
            "out_proj",
            self.value_heads * self.value_dim,
            self.hidden,
            role="ssm",
            split="in",
            grain=self.value_dim,
        )

    def weights(self) -> Iterator[Weight]:
        for linear in (*self._in(), *self._narrow()):
            yield from linear.weights()
        channels = 2.0 * self.key_heads * self.key_dim + self.value_heads * self.value_dim
        yield Weight("conv1d", channels * self.conv, "conv", "tp")
        per_head = 1.0 + self._decays / self.value_heads
        yield Weight("A_dt", per_head * self.value_heads, "norm", "tp", per_head)
        yield Weight("gated_norm", self.value_dim, "norm")
        yield from self._out().weights()

    def local(self, step: Step) -> tuple[Num, Num, Num]:
        """(key heads, value heads, channels of the convolution) on one device."""
        k, v = share(self.key_heads, 1.0, step.plan.tp), share(self.value_heads, 1.0, step.plan.tp)
        return k, v, 2.0 * k * self.key_dim + v * self.value_dim

    def ops(self, step: Step) -> Iterator[Op]:
        t = step.tokens
        k, v, channels = self.local(step)
        size = t * v * self.value_dim
        yield matmul(step, f"{self.name}.in_proj", "ssm", t, self._in(), "h", "qkvz")
        if narrow := self._narrow():
            yield matmul(step, f"{self.name}.za_down", "ssm", t, narrow[:1], "h", "za")
            yield matmul(step, f"{self.name}.za_up", "ssm", t, narrow[1:], "za", "qkvz")
        decays = v * (self.key_dim if self.by_channel else 1.0)
        yield causal_conv(step, f"{self.name}.conv1d", channels, self.conv, source="qkvz")
        yield scan(
            step,
            f"{self.name}.scan",
            "delta",
            v,
            self.key_dim,
            self.value_dim,
            groups=k,
            chunk=self.chunk,
            decays=decays,
            gates=v,
            parameters=v + decays,
            spill=True,
            state_format=self.state_format,
        )
        reads = {"scan.y": size, "qkvz": size}
        yield elementwise(step, f"{self.name}.gated_norm", "ssm", reads, {"o": size}, GATED_NORM)
        yield matmul(step, f"{self.name}.out_proj", "ssm", t, [self._out()], "o", "y")
        yield from all_reduce(step, f"{self.name}.all_reduce", self.hidden, "y")

    def state(self, step: Step) -> Iterator[SequenceState]:
        _, v, channels = self.local(step)
        yield from recurrent_state(step, v, self.key_dim, self.value_dim, self.state_format, channels, self.conv)

    def facts(self) -> BlockFacts:
        return BlockFacts(heads=self.key_heads, state="ssm_state")
