"""Once-for-All (arXiv:1908.09791): one network is trained out of which others of chosen depth, widths, kernels and
resolution are taken without training."""

from __future__ import annotations

from functools import cache

import tierwise as tw
from tierwise.models.blocks.conv import Conv
from tierwise.models.family import stack
from tierwise.models.types import Block, Layer, Model
from tierwise.papers.base import scenario
from tierwise.papers.types import NEEDS_FEATURE, NEEDS_SETUP, Claim, Paper

SIDE = 236
# Inverted bottlenecks of the network at 80.0 %: channels inside and out, kernel, stride, whether channels are gated.
BLOCKS = (
    (24, 24, 3, 1, 0), (72, 32, 3, 2, 0), (128, 32, 5, 1, 0), (96, 32, 3, 1, 0), (128, 48, 5, 2, 1), (192, 48, 5, 1, 1),
    (288, 48, 3, 1, 1), (144, 48, 5, 1, 1), (288, 96, 7, 2, 0), (576, 96, 5, 1, 0), (288, 96, 3, 1, 0),
    (384, 96, 5, 1, 0), (576, 136, 3, 1, 1), (816, 136, 5, 1, 1), (816, 136, 7, 1, 1), (544, 136, 3, 1, 1),
    (816, 192, 3, 2, 1), (1152, 192, 3, 1, 1), (1152, 192, 5, 1, 1), (576, 192, 3, 1, 1),
)  # fmt: skip
STEM, LAST, MIXED, CLASSES = 24, 1152, 1536, 1000


@cache
def network() -> Model:
    """The network, each convolution on a grid of its own side."""
    side, width, blocks = -(-SIDE // 2), STEM, list[Block]()

    def conv(c_in: float, c_out: float, kernel: float, stride: float, on: float, groups: float = 1.0) -> None:
        blocks.append(Conv(f"conv{len(blocks)}", c_in, c_out, kernel, stride, groups, on, norm=True, activated=True))

    conv(3, STEM, 3, 2, side)
    for inside, out, kernel, stride, gated in BLOCKS:
        if inside != width:
            conv(width, inside, 1, 1, side)
        side = -(-side // stride)
        conv(inside, inside, kernel, stride, side, inside)
        if gated:
            narrow = max(8, (inside // 4 + 4) // 8 * 8)
            conv(inside, narrow, 1, 1, 1)
            conv(narrow, inside, 1, 1, 1)
        conv(inside, out, 1, 1, side)
        width = out
    conv(width, LAST, 1, 1, side)
    conv(LAST, MIXED, 1, 1, 1)
    conv(MIXED, CLASSES, 1, 1, 1)
    tower = stack("vision", [Layer("network", tuple(blocks))], stream="vision", tokens=1.0)
    return Model("ofa-595m", "ofa", float(CLASSES), 0.0, (tower,), task="classify")


def multiply_adds() -> float:
    """Millions for one image."""
    result = tw.evaluate(scenario(network(), "1xt4", tw.Batch(prompt=1, output=1, batch=1)))
    return float(result.phase("vision").flops) / 2e6


_DEVICES = (
    "On the Pixel 1 with TensorFlow Lite, a network of 143 ms and 642 million multiply-adds against EfficientNet-B2's "
    "1,000 (section 4.2), and six phones against MobileNetV3 (figure 10). The networks tuned for phones are in files "
    "that the repository only links to, and no convolution was measured on these phones' processors."
)

PAPER = Paper(
    slug="once-for-all",
    title="Once-for-All: Train One Network and Specialize it for Efficient Deployment",
    source="arXiv:1908.09791",
    mechanism="One network is trained; its depth, widths, kernels and resolution are chosen afterwards for a device.",
    claims=(
        Claim("over MobileNetV3 at the same accuracy", 1.5, "x", "ratio", "abstract", missing=NEEDS_SETUP,
              why=_DEVICES),
        Claim("over EfficientNet", 2.6, "x", "ratio", "abstract", missing=NEEDS_SETUP, why=_DEVICES),
        Claim("multiply-adds of the network at 80.0 % on ImageNet", 600.0, "M", "at-most", "abstract", multiply_adds,
              metric="count"),
        Claim("the same, by the name it was published under", 595.0, "M", "count", "README", multiply_adds,
              extra=True),
        Claim("networks that one training gives", 1e19, "networks", "at-least", "abstract", metric="quality",
              missing=NEEDS_FEATURE, why="A count of choices, nothing that runs."),
    ),
    assumptions=(
        "flops@595M_top1@80.0_finetune@75: its widths, kernels and 236 pixels a side are those of net.config and "
        "run.config as Alibaba-MIIL/ImageNet21K keeps them.",
    ),
)  # fmt: skip
