"""Convolutions: images and waveforms, dense and depthwise, and the short causal one before a recurrence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from tierwise.core.num import Num, is_zero, where
from tierwise.core.numerics import Format, multiply_in
from tierwise.models.blocks.cache import fixed_state
from tierwise.models.blocks.common import Plain, act, elementwise
from tierwise.models.step import Step
from tierwise.models.types import SequenceState, Weight
from tierwise.program.types import Op, Operand


@dataclass(frozen=True)
class Conv(Plain):
    """A convolution over the grid of a stack's tokens: square in 2-D, a line in 1-D.

    A stack counts tokens of its last grid; a layer that works on a finer one has ``scale`` > 1.

    Attributes:
        c_in, c_out: channels; ``groups`` of them see each other (``groups = c_in``: depthwise).
        kernel, stride: along each side.
        scale: output positions along one side over those of the stack's grid.
        rank: 1 (time) or 2 (images); ``depth`` is a third, fully covered dimension (frames of a patch).
        extra: tokens of the stack that are not on the grid (class tokens).
        norm: a batch norm follows (folded into the kernel when it runs); its scale and shift are parameters.
        activated: an activation follows the norm, in the same kernel.
        role: weight role.
    """

    name: str
    c_in: Num
    c_out: Num
    kernel: Num
    stride: Num = 1.0
    groups: Num = 1.0
    scale: Num = 1.0
    rank: int = 2
    depth: Num = 1.0
    extra: Num = 0.0
    bias: bool = False
    norm: bool = False
    activated: bool = False
    role: str = "conv"

    def weights(self) -> Iterator[Weight]:
        yield Weight(self.name, self._taps() * self.c_out, self.role, sides=(self._taps(), self.c_out))
        if self.bias:
            yield Weight(self.name + ".bias", self.c_out, self.role)
        if self.norm:
            yield Weight(self.name + ".norm", 2.0 * self.c_out, "norm")

    def _taps(self) -> Num:
        """Multiply-adds of one output element."""
        return self.c_in / self.groups * self.kernel**self.rank * self.depth

    def ops(self, step: Step) -> Iterator[Op]:
        grid = step.new - self.extra
        positions = grid * self.scale**self.rank
        side = positions**0.5 if self.rank == 2 else positions
        outputs = step.seqs * positions * self.c_out
        inputs = step.seqs * positions * self.stride**self.rank * self.c_in * self.depth
        form = step.weight(self.role)
        yield Op(
            kind="conv",
            name=self.name,
            role="vision" if self.role == "vision" else "conv",
            dims={
                "batch": step.seqs,
                "out_h": side if self.rank == 2 else 1.0,
                "out_w": side,
                "c_out": self.c_out,
                "c_in": self.c_in * self.depth,
                "kh": self.kernel if self.rank == 2 else 1.0,
                "kw": self.kernel,
                "groups": self.groups,
                "stride": self.stride,
            },
            flops=2.0 * outputs * self._taps(),
            reads=(
                act(step, "pixels", inputs),
                Operand(self.name + ".w", "weight", self._taps() * self.c_out * step.density(self.role), form),
            ),
            writes=(act(step, "pixels", outputs),),
            arithmetic=multiply_in(form, step.act),
            options={"structured": step.plan.structured, "density": step.density(self.role),
                     "merged": self.norm, "activated": self.activated},
        )


@dataclass(frozen=True)
class Pool(Plain):
    """A reduction of ``factor`` inputs to one output per channel; ``scale`` as in a convolution.

    ``whole``: over the full grid, one vector an item.
    """

    channels: Num
    factor: Num = 1.0
    scale: Num = 1.0
    whole: bool = False
    name: str = "pool"

    def weights(self) -> Iterable[Weight]:
        return ()

    def ops(self, step: Step) -> Iterator[Op]:
        grid = step.tokens * self.channels * self.scale**2
        out = step.seqs * self.channels if self.whole else grid
        size = grid if self.whole else grid * self.factor
        yield elementwise(step, self.name, "conv", {"pixels": size}, {"pixels": out}, 1.0)


@dataclass(frozen=True)
class Merge(Plain):
    """Addition of a shortcut, and the activation after it, on a grid of ``scale``."""

    channels: Num
    scale: Num = 1.0
    name: str = "residual"

    def weights(self) -> Iterable[Weight]:
        return ()

    def ops(self, step: Step) -> Iterator[Op]:
        size = step.tokens * self.channels * self.scale**2
        op = elementwise(step, self.name, "conv", {"pixels": size, "shortcut": size}, {"pixels": size}, 2.0)
        yield replace(op, options={**op.options, "activated": True})


def causal_conv(
    step: Step,
    name: str,
    channels: Num,
    width: Num,
    *,
    source: str = "xz",
    target: str = "scan.v",
) -> Op:
    """A depthwise convolution over the last ``width`` tokens of each channel, and its SiLU.

    Reads the inputs of the last ``width - 1`` tokens from the layer's state and leaves the newest there.
    """
    t = step.tokens
    kept = step.seqs * channels * (width - 1.0)
    form = step.weight("conv")
    return Op(
        kind="conv",
        name=name,
        role="ssm",
        dims={
            "batch": step.seqs,
            "out_h": 1.0,
            "out_w": step.new,
            "c_out": channels,
            "c_in": channels,
            "kh": 1.0,
            "kw": width,
            "groups": channels,
            "stride": 1.0,
        },
        flops=2.0 * t * channels * width,
        reads=(
            act(step, source, t * channels),
            Operand("conv_state", "state", where(np.asarray(step.past) > 0, kept, 0.0), step.act),
            Operand(name + ".w", "weight", channels * width, form),
        ),
        writes=(act(step, target, t * channels), Operand("conv_state", "state", kept, step.act)),
        arithmetic=step.act.arithmetic,
    )


def recurrent_state(
    step: Step,
    heads: Num,
    key: Num,
    value: Num,
    form: Format | None,
    conv_channels: Num = 0.0,
    width: Num = 1.0,
) -> Iterator[SequenceState]:
    """What a recurrent layer keeps per sequence: its matrix state and the convolution's last inputs."""
    yield fixed_state("ssm_state", step, heads * key * value, form or step.act)
    if not is_zero(conv_channels):
        yield fixed_state("conv_state", step, conv_channels * (width - 1.0), step.act)
