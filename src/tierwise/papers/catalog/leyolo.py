"""LeYOLO (arXiv:2406.14239): a detector of inverted bottlenecks whose neck and heads are depthwise too, counted at the
resolutions it was published for."""

from __future__ import annotations

import math
from functools import cache

import tierwise as tw
from tierwise.models.blocks.conv import Conv
from tierwise.models.family import stack
from tierwise.models.types import Block, Layer, Model
from tierwise.papers.base import scenario
from tierwise.papers.types import Claim, Paper

# An inverted bottleneck: channels out, kernel, channels inside (0: those it reads, without a widening), stride.
Bottleneck = tuple[float, float, float, float]
SHALLOW: tuple[Bottleneck, ...] = (
    (16, 3, -16, 2), (32, 3, 96, 2), (32, 3, 96, 1), (64, 5, 96, 2), *4 * ((64, 5, 192, 1),),
    (96, 5, 576, 2), *3 * ((96, 5, 576, 1),),
)  # fmt: skip
DEEP: tuple[Bottleneck, ...] = (
    (16, 3, -16, 2), (32, 3, 96, 2), *2 * ((32, 3, 96, 1),), (64, 5, 96, 2), *5 * ((64, 5, 192, 1),),
    (96, 5, 576, 2), *4 * ((96, 5, 576, 1),),
)  # fmt: skip
LAST: Bottleneck = (64, 5, 128, 1)
# Rows of the README: backbone, width, bottlenecks of each level of the neck, whether each ends in another one, side.
NANO, SMALL, LARGE = (SHALLOW, 1.0, 3, False), (SHALLOW, 1.33, 3, False), (DEEP, 1.33, 4, True)
ROWS = (
    ("Nano", NANO, 320.0, 0.66), ("Nano", NANO, 480.0, 1.47), ("Small", SMALL, 480.0, 2.53),
    ("Small", SMALL, 640.0, 4.51), ("Medium", LARGE, 640.0, 5.80), ("Large", LARGE, 768.0, 8.40),
)  # fmt: skip
CLASSES, BOXES = 80.0, 64.0
_NORMS = (
    "Batch norms are folded into convolutions here; the counter of the authors' framework has them as four operations "
    "an element, with which all six come out within 3 %."
)
Design = tuple[tuple[Bottleneck, ...], float, int, bool]


class _Net:
    """Layers as they are put one behind the other; ``grid`` is finer than the last one by that factor along a side."""

    def __init__(self, width: float) -> None:
        self.width, self.channels, self.grid, self.blocks = width, 3.0, 32.0, list[Block]()

    def wide(self, channels: float) -> float:
        """Channels of a width, in whole eights."""
        return math.ceil(channels * self.width / 8.0) * 8.0

    def conv(self, out: float, kernel: float, stride: float = 1.0, groups: float = 1.0) -> None:
        self.grid /= stride
        name = f"conv{len(self.blocks)}"
        self.blocks.append(Conv(name, self.channels, out, kernel, stride, groups, self.grid, norm=True, activated=True))
        self.channels = out

    def bottleneck(self, b: Bottleneck) -> None:
        out, kernel, inside, stride = b
        inner = self.wide(inside) if inside > 0 else self.channels
        if inside > 0:
            self.conv(inner, 1.0)
        self.conv(inner, kernel, stride, groups=inner)
        self.conv(self.wide(out), 1.0)

    def heads(self, channels: float) -> None:
        """Boxes and classes of one level."""
        for inner, out in ((max(channels, min(CLASSES, 100.0)), CLASSES), (BOXES, BOXES)):
            self.channels = self.level
            self.conv(inner, 1.0)
            for _ in range(2):
                self.conv(inner, 3.0, groups=inner)
            self.conv(out, 1.0)

    level = 0.0


@cache
def detector(design: Design) -> Model:
    backbone, width, repeats, ending = design
    net = _Net(width)
    net.conv(net.wide(16), 3.0, 2.0)
    net.conv(net.wide(16), 1.0)
    ends: dict[float, float] = {}
    for b in backbone:
        net.bottleneck(b)
        ends[net.grid] = net.channels
    # Pooling at four sizes between two 1 x 1 convolutions.
    net.conv(net.wide(96) // 2, 1.0)
    net.channels *= 4.0
    net.conv(net.wide(96), 1.0)
    deepest = net.channels
    more = (LAST,) * ending

    net.grid, net.channels = 2.0, deepest + ends[2.0]
    for _ in range(repeats):
        net.bottleneck((64, 5, 128, 1))
    middle = net.channels
    net.grid, net.channels = 4.0, middle + ends[4.0]
    for b in ((32.0, 3.0, -1.0, 1.0), *2 * ((32.0, 3.0, 64.0, 1.0),), *more):
        net.bottleneck(b)
    levels = [(4.0, net.channels)]
    for grid, out, inside, joined in ((2.0, 64, 128, middle), (1.0, 96, 192, deepest)):
        net.conv(net.wide(out), 3.0, 2.0)
        net.channels += joined
        for _ in range(repeats if not (ending and grid == 1.0) else repeats - 1):
            net.bottleneck((out, 5, inside, 1))
        if ending and grid == 1.0:
            net.bottleneck(LAST)
        levels.append((grid, net.channels))
    for net.grid, net.level in levels:
        net.heads(levels[0][1])
    tower = stack("vision", [Layer("detector", tuple(net.blocks))], stream="vision", tokens=400.0, patch=32.0)
    return Model("leyolo", "leyolo", net.channels, 0.0, (tower,), task="classify")


def gigaflops(design: Design, side: float) -> float:
    traffic = tw.Batch(prompt=1, output=1, batch=1, image_size=side)
    return float(tw.evaluate(scenario(detector(design), "1xt4", traffic)).phase("vision").flops) / 1e9


PAPER = Paper(
    slug="leyolo",
    title="LeYOLO, New Embedded Architecture for Object Detection",
    source="arXiv:2406.14239",
    mechanism="Inverted bottlenecks throughout, narrow at high resolution, depthwise heads.",
    claims=(
        *(Claim(f"arithmetic of LeYOLO {name} at {side:g} pixels", published, "GFLOP", "count", "abstract; README",
                lambda design=design, side=side: gigaflops(design, side), why=_NORMS)  # type: ignore[misc]
          for name, design, side, published in ROWS),
        Claim("arithmetic of LeYOLO Small below YOLOv9-Tiny", 42.0, "%", "count", "abstract",
              lambda: 100.0 * (1.0 - gigaflops(SMALL, 640.0) / 7.7), why=_NORMS),
    ),
    assumptions=(
        "Layers, widths and repeats of the authors' configurations (ultralytics/cfg/cfg/leyolo*.yaml), their changed "
        "heads (ultralytics/nn/modules/head.py); a multiply-add is 2.",
        "YOLOv9-Tiny's 7.7 GFLOP at 640 pixels are those of its authors' table.",
    ),
)  # fmt: skip
