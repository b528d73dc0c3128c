"""Where an image or a waveform becomes tokens, and where tokens become one vector."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tierwise.core.num import Num, is_zero
from tierwise.models.blocks.common import ACTIVATION, Linear, Plain, elementwise, matmul
from tierwise.models.blocks.conv import Conv
from tierwise.models.step import Step
from tierwise.models.types import Weight
from tierwise.program.types import Op


@dataclass(frozen=True)
class PatchEmbed(Plain):
    """A convolution whose stride is its kernel, a table of positions, and tokens that are no patch.

    Attributes:
        channels: of the image (3); ``frames`` of them per patch (video towers: 2).
        patch: side in pixels.
        width: of the tokens.
        positions: rows of the position table; 0 for none.
        extra: class and distillation tokens in front of the patches.
        bias: of the convolution.
    """

    channels: Num
    patch: Num
    width: Num
    positions: Num = 0.0
    extra: Num = 0.0
    frames: Num = 1.0
    bias: bool = True
    role: str = "vision"
    name: str = "patch_embed"

    def _conv(self) -> Conv:
        return Conv(
            self.name,
            self.channels,
            self.width,
            self.patch,
            self.patch,
            depth=self.frames,
            extra=self.extra,
            bias=self.bias,
            role=self.role,
        )

    def weights(self) -> Iterator[Weight]:
        yield from self._conv().weights()
        if not is_zero(self.positions):
            yield Weight("position", self.positions * self.width, "norm")
        if not is_zero(self.extra):
            yield Weight("extra_tokens", self.extra * self.width, "norm")

    def ops(self, step: Step) -> Iterator[Op]:
        yield from self._conv().ops(step)
        if not is_zero(self.positions):
            size = step.tokens * self.width
            table = step.new * self.width
            yield elementwise(step, "position", "embed", {"pixels": size, "position": table}, {"x": size}, 1.0)


@dataclass(frozen=True)
class Mean(Plain):
    """The average of an item's tokens."""

    width: Num
    name: str = "mean"

    def weights(self) -> Iterable[Weight]:
        return ()

    def ops(self, step: Step) -> Iterator[Op]:
        yield elementwise(step, self.name, "head", {"h": step.tokens * self.width}, {"h": step.seqs * self.width}, 1.0)


@dataclass(frozen=True)
class Merger(Plain):
    """Neighbouring patches concatenated, and projected to a language model's width by two linear maps.

    Attributes:
        width: of a patch; ``merge`` patches along each side become one token.
        out: width of the language model.
    """

    width: Num
    merge: Num
    out: Num
    name: str = "merger"

    def _linears(self) -> tuple[Linear, Linear]:
        wide = self.width * self.merge**2
        return (
            Linear("merger_fc1", wide, wide, True, "vision"),
            Linear("merger_fc2", wide, self.out, True, "vision"),
        )

    def weights(self) -> Iterator[Weight]:
        for linear in self._linears():
            yield from linear.weights()

    def ops(self, step: Step) -> Iterator[Op]:
        m = step.tokens / self.merge**2
        first, second = self._linears()
        yield matmul(step, f"{self.name}.fc1", "vision", m, [first], "h", "u")
        wide = m * first.d_out
        yield elementwise(step, f"{self.name}.act", "vision", {"u": wide}, {"a": wide}, ACTIVATION)
        yield matmul(step, f"{self.name}.fc2", "vision", m, [second], "a", "y")
