"""Selective state spaces: Mamba (arXiv:2312.00752) and Mamba-2 (arXiv:2405.21060)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tierwise.core.num import Num
from tierwise.core.numerics import Format
from tierwise.models.blocks.common import GATED_NORM, NORM, Linear, all_reduce, collective, elementwise, matmul, share
from tierwise.models.blocks.conv import causal_conv, recurrent_state
from tierwise.models.blocks.scan import scan
from tierwise.models.facts import BlockFacts
from tierwise.models.step import Step
from tierwise.models.types import SequenceState, Weight
from tierwise.program.types import Op


@dataclass(frozen=True)
class Mamba:
    """Input projection, causal convolution, input-dependent Δ, B, C, selective scan, gate, output projection.

    Tensor parallelism divides the channels; Δ, B and C need every channel, hence one all-reduce inside.

    Attributes:
        hidden, inner: widths; every inner channel has ``state`` numbers of state.
        rank: width of the bottleneck Δ passes through.
        conv: taps of the convolution; ``conv_bias``, ``bias`` (projections).
        inner_norm: RMS norms on Δ, B and C (Jamba); ``inner_affine`` when they have weights (Falcon Mamba:
            not).
        directions: 2 for a second convolution, projection and scan from the end of the sequence (Vim).
        state_format: storage of the scan's state; the activations' format by default.
    """

    hidden: Num
    inner: Num
    state_size: Num
    rank: Num
    conv: Num = 4.0
    conv_bias: bool = True
    bias: bool = False
    inner_norm: bool = False
    inner_affine: bool = True
    directions: int = 1
    state_format: Format | None = None
    name: str = "mamba"

    def _in(self) -> Linear:
        return Linear("in_proj", self.hidden, 2.0 * self.inner, self.bias, "ssm", "out")

    def _x(self) -> Linear:
        return Linear("x_proj", self.inner, self.rank + 2.0 * self.state_size, role="ssm", split="in")

    def _dt(self) -> Linear:
        return Linear("dt_proj", self.rank, self.inner, True, "ssm", "out")

    def _out(self) -> Linear:
        return Linear("out_proj", self.inner, self.hidden, self.bias, "ssm", "in")

    def weights(self) -> Iterator[Weight]:
        yield from self._in().weights()
        for _ in range(self.directions):
            yield Weight("conv1d", self.inner * (self.conv + float(self.conv_bias)), "conv", "tp")
            yield from self._x().weights()
            yield from self._dt().weights()
            yield Weight("A_log", self.inner * self.state_size, "norm", "tp")
            yield Weight("D", self.inner, "norm", "tp")
            if self.inner_norm and self.inner_affine:
                yield Weight("inner_norm", self.rank + 2.0 * self.state_size, "norm")
        yield from self._out().weights()

    def ops(self, step: Step) -> Iterator[Op]:
        t = step.tokens
        d = share(self.inner, 0.0, step.plan.tp)
        narrow = self.rank + 2.0 * self.state_size
        yield matmul(step, f"{self.name}.in_proj", "ssm", t, [self._in()], "h", "xz")
        for i in range(self.directions):
            tag = f"{self.name}.back." if i else f"{self.name}."
            yield causal_conv(step, tag + "conv1d", d, self.conv)
            yield matmul(step, tag + "x_proj", "ssm", t, [self._x()], "scan.v", "dbc")
            yield from collective(step, tag + "x_all_reduce", "all_reduce", t * narrow, step.plan.tp, "dbc")
            if self.inner_norm:
                yield elementwise(step, tag + "norm", "ssm", {"dbc": t * narrow}, {"dbc": t * narrow}, NORM)
            yield matmul(step, tag + "dt_proj", "ssm", t, [self._dt()], "dbc", "scan.decay")
            yield scan(
                step,
                tag + "scan",
                "selective",
                d,
                self.state_size,
                1.0,
                groups=1.0,
                decays=d,
                parameters=d * (self.state_size + 1.0),
                state_format=self.state_format,
                result=f"scan.y{i}",
            )
        yield elementwise(
            step,
            f"{self.name}.gate",
            "ssm",
            {**{f"scan.y{i}": t * d for i in range(self.directions)}, "xz": t * d},
            {"o": t * d},
            4.0 + self.directions,
        )
        yield matmul(step, f"{self.name}.out_proj", "ssm", t, [self._out()], "o", "y")
        yield from all_reduce(step, f"{self.name}.all_reduce", self.hidden, "y")

    def state(self, step: Step) -> Iterator[SequenceState]:
        d = share(self.inner, 0.0, step.plan.tp)
        yield from recurrent_state(step, d, self.state_size, 1.0, self.state_format, d, self.conv)

    def facts(self) -> BlockFacts:
        return BlockFacts(state="ssm_state")


@dataclass(frozen=True)
class Mamba2:
    """Mamba with one decay a head, computed in chunks as matrix products (state-space duality).

    Tensor parallelism divides the heads, and the groups of B and C as long as there are enough.

    Attributes:
        hidden: width of the residual stream.
        heads, head_dim: inner width is their product.
        state_size: numbers of state per channel; ``groups`` of heads share B and C.
        conv: taps of the convolution over x, B and C.
        chunk: tokens per chunk.
        normed: the gate is followed by a norm.
        state_format: storage of the state; the activations' format by default.
    """

    hidden: Num
    heads: Num
    head_dim: Num
    state_size: Num
    groups: Num = 1.0
    conv: Num = 4.0
    chunk: Num = 256.0
    conv_bias: bool = True
    bias: bool = False
    normed: bool = True
    state_format: Format | None = None
    name: str = "mamba"

    @property
    def inner(self) -> Num:
        return self.heads * self.head_dim

    def _in(self) -> list[Linear]:
        wide, narrow = self.inner, self.groups * self.state_size
        parts = [
            ("z", wide, self.head_dim),
            ("x", wide, self.head_dim),
            ("B", narrow, self.state_size),
            ("C", narrow, self.state_size),
            ("dt", self.heads, 1.0),
        ]
        return [Linear(f"in_proj.{n}", self.hidden, w, self.bias, "ssm", "out", grain) for n, w, grain in parts]

    def _out(self) -> Linear:
        return Linear("out_proj", self.inner, self.hidden, self.bias, "ssm", "in", self.head_dim)

    def weights(self) -> Iterator[Weight]:
        for linear in self._in():
            yield from linear.weights()
        channels = self.inner + 2.0 * self.groups * self.state_size
        yield Weight("conv1d", channels * (self.conv + float(self.conv_bias)), "conv", "tp")
        yield Weight("A_D_dt", 3.0 * self.heads, "norm", "tp", 3.0)
        if self.normed:
            yield Weight("gated_norm", self.inner, "norm", "tp", self.head_dim)
        yield from self._out().weights()

    def local(self, step: Step) -> tuple[Num, Num]:
        """(heads, groups) on one device."""
        return share(self.heads, 1.0, step.plan.tp), share(self.groups, 1.0, step.plan.tp)

    def ops(self, step: Step) -> Iterator[Op]:
        t = step.tokens
        h, g = self.local(step)
        d = h * self.head_dim
        yield matmul(step, f"{self.name}.in_proj", "ssm", t, self._in(), "h", "xz")
        yield causal_conv(step, f"{self.name}.conv1d", d + 2.0 * g * self.state_size, self.conv)
        yield scan(
            step,
            f"{self.name}.scan",
            "linear",
            h,
            self.state_size,
            self.head_dim,
            groups=g,
            chunk=self.chunk,
            decays=h,
            parameters=3.0 * h,
            spill=True,
            state_format=self.state_format,
        )
        reads = {"scan.y": t * d, "xz": t * d}
        work = GATED_NORM if self.normed else GATED_NORM - NORM
        yield elementwise(step, f"{self.name}.gated_norm", "ssm", reads, {"o": t * d}, work)
        yield matmul(step, f"{self.name}.out_proj", "ssm", t, [self._out()], "o", "y")
        yield from all_reduce(step, f"{self.name}.all_reduce", self.hidden, "y")

    def state(self, step: Step) -> Iterator[SequenceState]:
        h, g = self.local(step)
        channels = h * self.head_dim + 2.0 * g * self.state_size
        yield from recurrent_state(step, h, self.state_size, self.head_dim, self.state_format, channels, self.conv)

    def facts(self) -> BlockFacts:
        return BlockFacts(heads=self.heads, state="ssm_state")
