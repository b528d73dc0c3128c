"""uPyD-Net on a GAP9 (arXiv:2512.00086): a small pyramid of convolutions that estimates depth and is tuned where it
runs."""

from __future__ import annotations

from functools import cache

from tierwise.core.numerics import fmt
from tierwise.models.blocks.conv import Conv
from tierwise.papers.base import IMAGE, TunedMemory, Tuning, Unit, contrast, tuned, whole
from tierwise.papers.types import NEEDS_FEATURE, Claim, Paper

COARSE = (48.0 / 4.0) ** 2  # positions of the lowest level of an image of 48 pixels a side
WIDTHS = (8.0, 16.0, 32.0)  # channels of the pyramid, each level half as wide as the one before
DECODED = 32.0


def _conv(name: str, c_in: float, c_out: float, stride: float, scale: float, activated: bool = True) -> Conv:
    return Conv(name, c_in, c_out, 3.0, stride, scale=scale, bias=True, activated=activated)


@cache
def network() -> tuple[Unit, ...]:
    """The pyramid down, and back up with its levels joined on; a transposed 2 x 2 convolution that moves by two is the
    1 x 1 convolution to four times the channels that it computes."""
    units: list[Unit] = []
    levels: list[int] = []
    before = 1.0
    for level, width in enumerate(WIDTHS):
        scale, stride = 4.0 / 2.0**level, 1.0 if level == 0 else 2.0
        units.append(Unit(_conv(f"down{level}a", before, width, stride, scale), (len(units) - 1,)))
        units.append(Unit(_conv(f"down{level}b", width, width, 1.0, scale), (len(units) - 1,)))
        levels.append(len(units) - 1)
        before = width
    assert units[0].reads == (IMAGE,)
    for level in range(3):
        scale, last = 2.0**level, 1.0 if level == 2 else DECODED
        joined = WIDTHS[2] if level == 0 else WIDTHS[2 - level] + DECODED
        reads = (levels[2 - level], len(units) - 1) if level else (levels[2],)
        units.append(Unit(_conv(f"up{level}a", joined, DECODED, 1.0, scale), reads))
        units.append(Unit(_conv(f"up{level}b", DECODED, DECODED, 1.0, scale), (len(units) - 1,)))
        units.append(Unit(_conv(f"up{level}c", DECODED, last, 1.0, scale, activated=False), (len(units) - 1,)))
        if level < 2:
            units.append(Unit(Conv(f"up{level}", DECODED, 4.0 * DECODED, 1.0, scale=scale), (len(units) - 1,)))
    return tuple(units)


def first_decoder() -> Tuning:
    """What the authors' runs on the device tune: it and the transposed convolution behind it."""
    names = ("up0a", "up0b", "up0c", "up0")
    return Tuning({i: 1.0 for i, u in enumerate(network()) if u.conv is not None and u.conv.name in names})


def memory(tuning: Tuning) -> TunedMemory:
    return tuned(network(), COARSE, tuning, fmt("bf16"), fmt("bf16"), held=True)


def megabytes(tuning: Tuning) -> float:
    """Weights, gradients and Adam's two moments of those that are tuned, and what lies there at once of activations and
    their gradients."""
    m = memory(tuning)
    return (m.weights + 3.0 * m.gradients + m.peak) / 1e6


_FORMAT = (
    "In the 16 bits and with the Adam of the authors' scripts. In 32 bits without moments the same account has 1.3 MB "
    "and 2.2: which of both the device runs, and what the number counts, is not in a text we could read."
)

PAPER = Paper(
    slug="on-device-mde-gap9",
    title="Multi-modal On-Device Learning for Monocular Depth Estimation on Ultra-low-power MCUs",
    source="arXiv:2512.00086",
    mechanism="A small depth network is tuned on the microcontroller itself, in the layers that memory allows.",
    claims=(
        Claim("parameters of the network", 107.0, "k", "count", "abstract",
              lambda: memory(first_decoder()).weights / 2e3),
        Claim("memory of tuning", 1.2, "MB", "memory", "abstract",
              lambda: megabytes(contrast(whole(network()), first_decoder())), why=_FORMAT),
        Claim("memory of tuning all layers over it", 2.2, "x", "memory", "abstract",
              lambda: megabytes(whole(network())) / megabytes(contrast(whole(network()), first_decoder())),
              why=_FORMAT),
        Claim("tuning with 3,000 samples", 17.8, "min", "absolute", "abstract", missing=NEEDS_FEATURE,
              why="Convolutions have no backward pass that is priced, and rates of the chip's nine cores in training "
                  "are measured in no source found."),
        Claim("power of the device with camera and depth sensor", 300.0, "mW", "ratio", "abstract", metric="energy",
              missing=NEEDS_FEATURE, why="What sensors draw is no cost of a program."),
    ),
    assumptions=(
        "Layers as in the authors' code (models/upydnet.py of the published repository): 3 x 3 convolutions with "
        "biases, 8, 16 and 32 channels down, three decoders of 32, grey images of 48 x 48, one at a time.",
        "The first decoder and its transposed convolution alone are tuned, in bf16, by Adam (receipt "
        "finetune_idsia_micro_mde_sparseupdate_1ep.sh and defaults of its script); gradients of weights are held until "
        "the update, moments are in the format of the weights.",
        "The 64 biases of the two transposed convolutions are left out.",
    ),
)  # fmt: skip
