"""Attention without softmax: a decayed matrix state instead of a cache that grows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tierwise.core.num import Num, is_zero
from tierwise.core.numerics import Format
from tierwise.models.blocks.common import GATED_NORM, Linear, all_reduce, elementwise, matmul, share
from tierwise.models.blocks.conv import Conv, recurrent_state
from tierwise.models.blocks.scan import scan
from tierwise.models.facts import BlockFacts
from tierwise.models.step import Step
from tierwise.models.types import SequenceState, Weight
from tierwise.program.types import Op


@dataclass(frozen=True)
class LinearAttention:
    """Queries, keys, values, a decay, the chunked scan, a norm and gate, the output projection.

    Retention and Lightning Attention (arXiv:2405.17381) have a fixed decay a head; gated linear attention
    (arXiv:2312.06635) computes one per key channel through a bottleneck of ``decay_rank``.

    Attributes:
        hidden: width of the residual stream.
        heads, key_dim, value_dim: widths per head.
        decay_rank: 0 for a fixed decay.
        gate: an output gate of the values' width is projected from the input.
        gate_bias: it has a bias.
        norms: scale parameters of the norms on the output.
        chunk: tokens per chunk; ``by_token`` when a prompt is not chunked either.
        spill: states at chunk starts go through memory (kernels that are parallel over chunks).
        directions: 2 for a backward scan with its own decay over the same queries, keys and values (ViG).
        local: side of a depthwise 2-D convolution before the projections, 0 for none (ViG).
        extra: tokens of the stack off the image grid.
    """

    hidden: Num
    heads: Num
    key_dim: Num
    value_dim: Num
    decay_rank: Num = 0.0
    gate: bool = True
    gate_bias: bool = False
    norms: Num = 0.0
    chunk: Num = 64.0
    by_token: bool = False
    spill: bool = False
    directions: int = 1
    local: Num = 0.0
    extra: Num = 0.0
    state_format: Format | None = None
    role: str = "attn"
    name: str = "linear_attn"

    def _in(self) -> list[Linear]:
        widths = [("q_proj", self.key_dim), ("k_proj", self.key_dim), ("v_proj", self.value_dim)]
        out = [Linear(n, self.hidden, self.heads * w, role=self.role, split="out", grain=w) for n, w in widths]
        if self.gate:
            out.append(
                Linear(
                    "g_proj",
                    self.hidden,
                    self.heads * self.value_dim,
                    self.gate_bias,
                    self.role,
                    "out",
                    self.value_dim,
                )
            )
        return out

    def _decay(self) -> list[Linear]:
        if is_zero(self.decay_rank):
            return []
        width = self.heads * self.key_dim * self.directions
        return [
            Linear("decay_down", self.hidden, self.decay_rank, role=self.role),
            Linear("decay_up", self.decay_rank, width, True, self.role, "out", self.key_dim),
        ]

    def _out(self) -> Linear:
        return Linear("o_proj", self.heads * self.value_dim, self.hidden, False, self.role, "in", self.value_dim)

    def _conv(self) -> list[Conv]:
        if is_zero(self.local):
            return []
        return [
            Conv(
                f"{self.name}.local",
                self.hidden,
                self.hidden,
                self.local,
                groups=self.hidden,
                extra=self.extra,
            )
        ]

    def weights(self) -> Iterator[Weight]:
        for conv in self._conv():
            yield from conv.weights()
        for linear in (*self._in(), *self._decay(), self._out()):
            yield from linear.weights()
        if not is_zero(self.norms):
            yield Weight("norm", self.norms, "norm")

    def ops(self, step: Step) -> Iterator[Op]:
        t = step.tokens
        h = share(self.heads, 1.0, step.plan.tp)
        for conv in self._conv():
            yield from conv.ops(step)
        yield matmul(step, f"{self.name}.qkvg_proj", "attn", t, self._in(), "h", "qkvg")
        down_up = self._decay()
        if down_up:
            yield matmul(step, f"{self.name}.decay_down", "attn", t, down_up[:1], "h", "z")
            yield matmul(step, f"{self.name}.decay_up", "attn", t, down_up[1:], "z", "scan.decay")
        yield scan(
            step,
            f"{self.name}.scan",
            "linear",
            h,
            self.key_dim,
            self.value_dim,
            chunk=self.chunk,
            by_token=self.by_token,
            decays=h * self.key_dim if down_up else 0.0,
            spill=self.spill,
            directions=float(self.directions),
            state_format=self.state_format,
        )
        o = t * h * self.value_dim
        reads = {"scan.y": o * self.directions, **({"qkvg": o} if self.gate else {})}
        yield elementwise(step, f"{self.name}.norm_gate", "attn", reads, {"o": o}, GATED_NORM)
        yield matmul(step, f"{self.name}.o_proj", "attn", t, [self._out()], "o", "y")
        yield from all_reduce(step, f"{self.name}.all_reduce", self.hidden, "y")

    def state(self, step: Step) -> Iterator[SequenceState]:
        h = share(self.heads, 1.0, step.plan.tp)
        yield from recurrent_state(step, h, self.key_dim, self.value_dim, self.state_format)

    def facts(self) -> BlockFacts:
        return BlockFacts(heads=self.heads, state="ssm_state")
