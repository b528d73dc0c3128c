"""MCUNetV2 (arXiv:2110.15352): the first blocks of a network, whose activations are the largest, run on one patch of
the image after the other."""

from __future__ import annotations

from functools import cache

from tierwise.core.numerics import fmt
from tierwise.models.blocks.conv import Conv
from tierwise.papers.base import IMAGE, Unit, contrast, in_patches, in_turn, work_in_patches
from tierwise.papers.types import NEEDS_SETUP, Claim, Paper

# MobileNetV2: widened by, channels, how many, stride of the first (arXiv:1801.04381, table 2).
BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
COARSE = 7.0  # positions a side of the last grid
FIRST, GRID = 4, 4  # blocks in patches behind the first convolution, patches a side


@cache
def network() -> tuple[tuple[Unit, ...], int]:
    """(MobileNetV2 for 224 pixels a side, how many convolutions its first blocks and the one before them have)."""
    units: list[Unit] = []
    ends: list[int] = []

    def put(c_in: float, c_out: float, kernel: float, stride: float, side: float, groups: float = 1.0) -> None:
        name = f"conv{len(units)}"
        units.append(Unit(Conv(name, c_in, c_out, kernel, stride, groups, side / COARSE, bias=True), (len(units) - 1,)))

    side, width = 112.0, 32.0
    put(3.0, width, 3.0, 2.0, side)
    for times, channels, count, first in BLOCKS:
        for j in range(count):
            at, stride, inner = len(units) - 1, first if j == 0 else 1, width * times
            if times > 1:
                put(width, inner, 1.0, 1.0, side)
            side /= stride
            put(inner, inner, 3.0, stride, side, inner)
            put(inner, channels, 1.0, 1.0, side)
            if stride == 1 and width == channels:
                units.append(Unit(None, (at, len(units) - 1)))
            width = float(channels)
            ends.append(sum(u.conv is not None for u in units))
    put(width, 1280.0, 1.0, 1.0, side)
    assert units[0].reads == (IMAGE,)
    return tuple(units), ends[FIRST - 1]


@cache
def whole() -> float:
    """kB (of 1024) of activations, one layer after the other."""
    return in_turn(network()[0], COARSE**2, fmt("int8")) / 1024.0


@cache
def patches() -> float:
    """The same in patches."""
    units, stage = network()
    return in_patches(units, COARSE**2, fmt("int8"), stage, GRID).peak / 1024.0


@cache
def work() -> tuple[float, float]:
    """Millions of multiply-adds in patches: (of the blocks that run so, of all)."""
    units, stage = network()
    some, all_ = work_in_patches(units, COARSE**2, fmt("int8"), stage, GRID)
    return some / 1e6, all_ / 1e6


PAPER = Paper(
    slug="mcunetv2",
    title="MCUNetV2: Memory-Efficient Patch-based Inference for Tiny Deep Learning",
    source="arXiv:2110.15352",
    mechanism="The first blocks of a network run on one patch of the image after the other.",
    claims=(
        Claim("peak memory of existing networks, whole over in patches, least", 4.0, "x", "memory", "abstract",
              missing=NEEDS_SETUP,
              why="Of five networks in 4 x 4 patches (figure 5: 3.7 to 8 times), one alone has its values written."),
        Claim("peak memory of existing networks, whole over in patches, most", 8.0, "x", "memory",
              "abstract; figure 1", lambda: whole() / contrast(whole, patches)()),
        Claim("SRAM of visual wake words at 90 % accuracy", 32.0, "kB", "memory", "abstract", missing=NEEDS_SETUP,
              why="The searched network is not published layer by layer; the published one is of the first MCUNet."),
        Claim("MobileNetV2, one layer after the other", 1372.0, "kB", "memory", "figure 1", whole, extra=True),
        Claim("MobileNetV2, its first five blocks in patches", 172.0, "kB", "memory", "figure 1",
              contrast(whole, patches), extra=True),
        Claim("multiply-adds of MobileNetV2 in patches", 330.0, "M", "count", "table 1", lambda: work()[1], extra=True),
        Claim("multiply-adds of its first five blocks in patches", 130.0, "M", "count", "table 1", lambda: work()[0],
              extra=True, why="every patch is taken with 75 x 75 pixels, those at the image's border too"),
    ),
    assumptions=(
        "MobileNetV2 at 224 x 224 in 8 bits, 4 x 4 patches of the first 5 blocks of 18, its first layer being one "
        "(figure 1 and text); kB of 1024 bytes, depthwise convolutions in place, the image outside.",
        "Sums lie where the shortcut lies: the authors' own analysis counts of a block's last convolution its operand "
        "and result alone (mcunet/utils/pytorch_utils.py, where a comment asks whether the output is reused). Read "
        "there after 196 kB had come out for 172.",
    ),
)  # fmt: skip
