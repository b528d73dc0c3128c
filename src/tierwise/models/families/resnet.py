"""ResNet (arXiv:1512.03385), with the stride in the 3×3 convolution unless the configuration says otherwise.

Shapes after `transformers` (models/resnet). The stack counts positions of the last grid, 1/32 of the image's
side; earlier stages are finer by powers of two.
"""

from __future__ import annotations

from tierwise.core.errors import BadField
from tierwise.models.blocks.conv import Conv, Merge, Pool
from tierwise.models.blocks.ends import Head
from tierwise.models.config import Config
from tierwise.models.families._common import stack
from tierwise.models.families._encoder import architecture, labels
from tierwise.models.types import Block, Layer, Model

TYPES = ("resnet",)

_IMAGE = 224.0  # pixels a side: the published checkpoints' input
_REDUCTION = 4.0  # a bottleneck's inner width is a quarter of its outer


def build(c: Config, name: str) -> Model:
    widths, depths = c.sizes("hidden_sizes"), [int(d) for d in c.sizes("depths")]
    if not widths or len(widths) != len(depths) or sum(depths) > 10_000:
        raise BadField(c.where, "depths", depths, f"one number for each of {len(widths)} hidden_sizes")
    first = 2.0 if c.flag("downsample_in_first_stage") else 1.0
    shrink = 4.0 * first * 2.0 ** (len(widths) - 1)
    layers: list[Layer] = []
    c_in, scale = c.size("embedding_size", default=64.0), shrink / 4.0
    stem = (
        Conv("stem", c.size("num_channels", default=3.0), c_in, 7.0, 2.0, scale=scale * 2.0, norm=True,
             activated=True),
        Pool(c_in, 4.0, scale, name="stem_pool"),
    )
    for i, (width, n) in enumerate(zip(widths, depths, strict=True)):
        for j in range(n):
            stride = (first if i == 0 else 2.0) if j == 0 else 1.0
            scale /= stride
            layers.append(Layer(f"stage{i + 1}", _residual(c, c_in, width, stride, scale)))
            c_in = width
    ends: tuple[Block, ...] = (Pool(c_in, whole=True, name="mean"),)
    if "ImageClassification" in architecture(c):
        ends = (*ends, Head(c_in, labels(c), bias=True, pooled=True))
    tower = stack(
        "vision",
        layers,
        before=stem,
        after=ends,
        stream="vision",
        tokens=(_IMAGE / shrink) ** 2,
        patch=shrink,
    )
    return Model(name, "resnet", c_in, 0.0, (tower,), task="classify")


def _residual(c: Config, c_in: float, width: float, stride: float, scale: float) -> tuple[Block, ...]:
    """A bottleneck or basic block whose output is ``width`` channels on a grid of ``scale``."""
    out: list[Block] = []
    if c_in != width or stride != 1.0:
        out.append(Conv("shortcut", c_in, width, 1.0, stride, scale=scale, norm=True))
    if c.text("layer_type", default="bottleneck") == "basic":
        out += [
            Conv("conv1", c_in, width, 3.0, stride, scale=scale, norm=True, activated=True),
            Conv("conv2", width, width, 3.0, scale=scale, norm=True),
        ]
    else:
        inner = width / _REDUCTION
        early = c.flag("downsample_in_bottleneck")
        fine = scale if early else scale * stride
        out += [
            Conv("conv1", c_in, inner, 1.0, stride if early else 1.0, scale=fine, norm=True, activated=True),
            Conv("conv2", inner, inner, 3.0, 1.0 if early else stride, scale=scale, norm=True, activated=True),
            Conv("conv3", inner, width, 1.0, scale=scale, norm=True),
        ]
    return (*out, Merge(width, scale))
