"""MobileTL (arXiv:2212.03246): inverted residual blocks are tuned without the maps that norms and activations need."""

from __future__ import annotations

from functools import cache

from tierwise.core.numerics import fmt
from tierwise.models.blocks.conv import Conv
from tierwise.papers.base import IMAGE, Unit, contrast, needed
from tierwise.papers.types import NEEDS_SETUP, Claim, Paper

WIDENED = 6.0
# Residual blocks of stride one: width and positions a side of MobileNetV2's (arXiv:1801.04381, table 2) and of
# MobileNetV3-Large's with squeeze and excitation (arXiv:1905.02244, table 1).
V2, V3 = (96.0, 14.0), (112.0, 14.0)


@cache
def block(width: float) -> tuple[Unit, ...]:
    """Widened, one filter a channel, narrowed again; norms behind each, activations behind the first two."""
    inner = WIDENED * width
    convs = (
        Conv("expand", width, inner, 1.0, norm=True, activated=True),
        Conv("depthwise", inner, inner, 3.0, groups=inner, norm=True, activated=True),
        Conv("project", inner, width, 1.0, norm=True),
    )
    return tuple(Unit(conv, (i - 1 if i else IMAGE,)) for i, conv in enumerate(convs))


def kept(shape: tuple[float, float], smooth: bool, less: bool) -> float:
    """Bytes that the gradients of a block need; ``less``: as the authors train it."""
    width, side = shape
    scaled = (1,) if smooth else ()
    return needed(block(width), side**2, fmt("fp32"), smooth=smooth, scaled=scaled, shifts=less, signs=less)


def saved(shape: tuple[float, float], smooth: bool) -> float:
    """Percent."""
    return 100.0 * (1.0 - kept(shape, smooth, contrast(False, True)) / kept(shape, smooth, False))


PAPER = Paper(
    slug="mobiletl",
    title="MobileTL: On-device Transfer Learning with Inverted Residual Blocks",
    source="arXiv:2212.03246",
    mechanism="Norms inside of a block train their shifts alone, and activations keep signs.",
    claims=(
        Claim("memory of tuning MobileNetV2's inverted residual blocks, saved", 46.0, "%", "memory", "abstract",
              lambda: saved(V2, smooth=False)),
        Claim("memory of tuning MobileNetV3's inverted residual blocks, saved", 53.0, "%", "memory", "abstract",
              lambda: saved(V3, smooth=True)),
        Claim("FLOPs of tuning five blocks of MobileNetV3, saved", 36.0, "%", "count", "abstract",
              missing=NEEDS_SETUP, why="which of MobileNetV3's two sizes; against tuning all of it, counting by "
              "hand gives 32 for the large one and 34 for the small"),
    ),
    assumptions=(
        "The shares of a block of stride one, widened six times; width and grid do not change them. MobileNetV3's "
        "with hard-swish and squeeze and excitation, behind the activation as in torchvision.",
        "The last norm of a block is trained whole, the two inside their shifts (the authors' project page).",
        "ReLU6 needs of each element whether it was cut, in the plain block too. PyTorch keeps its input whole: the "
        "plain block then has 38 widths of a map in place of 26, and 62 % would be saved.",
    ),
)  # fmt: skip
