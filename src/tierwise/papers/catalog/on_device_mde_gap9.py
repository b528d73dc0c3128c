"""uPyD-Net on a GAP9 (arXiv:2512.00086): a small pyramid of convolutions that estimates depth and is tuned where it
runs."""

from __future__ import annotations

from functools import cache

from tierwise.models.blocks.conv import Conv
from tierwise.models.family import stack
from tierwise.models.types import Layer, Model
from tierwise.papers.types import NEEDS_FEATURE, Claim, Paper

IMAGE = 48.0  # pixels a side
WIDTHS = (8.0, 16.0, 32.0)  # channels of the pyramid, each level half as wide as the one before
DECODED = 32.0


def _conv(name: str, c_in: float, c_out: float, stride: float, scale: float) -> Conv:
    return Conv(name, c_in, c_out, 3.0, stride, scale=scale, bias=True, activated=True)


@cache
def network() -> Model:
    """The pyramid down, and back up with its levels joined on; a transposed 2 x 2 convolution that moves by two is the
    1 x 1 convolution to four times the channels that it computes."""
    layers: list[Layer] = []
    before = 1.0
    for level, width in enumerate(WIDTHS):
        scale, stride = 4.0 / 2.0**level, 1.0 if level == 0 else 2.0
        layers.append(Layer(f"down{level}", (_conv("a", before, width, stride, scale),
                                             _conv("b", width, width, 1.0, scale))))  # fmt: skip
        before = width
    for level, joined in enumerate((WIDTHS[2], WIDTHS[1] + DECODED, WIDTHS[0] + DECODED)):
        scale, last = 2.0**level, 1.0 if level == 2 else DECODED
        parts = [_conv("a", joined, DECODED, 1.0, scale), _conv("b", DECODED, DECODED, 1.0, scale),
                 _conv("c", DECODED, last, 1.0, scale)]  # fmt: skip
        if level < 2:
            parts.append(Conv("up", DECODED, 4.0 * DECODED, 1.0, scale=scale))
        layers.append(Layer(f"up{level}", tuple(parts)))
    tower = stack("vision", layers, stream="vision", tokens=(IMAGE / 4.0) ** 2, patch=4.0)
    return Model("upydnet", "upydnet", DECODED, 0.0, (tower,), task="classify")


_TUNING = (
    "Convolutions have no backward pass here, nor can some layers of a network be tuned alone: the authors' scripts "
    "tune the first decoder and nothing else."
)

PAPER = Paper(
    slug="on-device-mde-gap9",
    title="Multi-modal On-Device Learning for Monocular Depth Estimation on Ultra-low-power MCUs",
    source="arXiv:2512.00086",
    mechanism="A small depth network is tuned on the microcontroller itself, in the layers that memory allows.",
    claims=(
        Claim("parameters of the network", 107.0, "k", "count", "abstract", lambda: float(network().parameters) / 1e3),
        Claim("memory of tuning", 1.2, "MB", "memory", "abstract", missing=NEEDS_FEATURE, why=_TUNING),
        Claim("memory of tuning all layers over it", 2.2, "x", "memory", "abstract", missing=NEEDS_FEATURE,
              why=_TUNING),
        Claim("tuning with 3,000 samples", 17.8, "min", "absolute", "abstract", missing=NEEDS_FEATURE,
              why=_TUNING + " Rates of the chip's nine cores in training are not measured in any source found."),
        Claim("power of the device with camera and depth sensor", 300.0, "mW", "ratio", "abstract", metric="energy",
              missing=NEEDS_FEATURE, why="What sensors draw is no cost of a program."),
    ),
    assumptions=(
        "Layers as in the authors' code (models/upydnet.py of the published repository): 3 x 3 convolutions with "
        "biases, 8, 16 and 32 channels down, three decoders of 32, grey images of 48 x 48.",
        "The 64 biases of the two transposed convolutions are left out.",
    ),
)  # fmt: skip
