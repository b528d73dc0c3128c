"""Training under 256 kB (arXiv:2206.15472): few layers, and of these few channels, are tuned in int8 on a
microcontroller; a compiler prunes the way back and lays its memory out."""

from __future__ import annotations

from functools import cache

from tierwise.core.numerics import fmt
from tierwise.models.blocks.conv import Conv
from tierwise.papers.base import IMAGE, TunedMemory, Tuning, Unit, contrast, tuned, whole
from tierwise.papers.types import NEEDS_FEATURE, Claim, Paper

# Blocks: widened to, kernel, stride, narrowed to (tinyengine, assets/49kb-int8-graph.json).
BLOCKS = (
    (0, 3, 1, 8), (32, 3, 2, 16), (48, 3, 1, 16), (48, 7, 2, 24), (120, 3, 1, 24), (120, 3, 2, 40), (160, 7, 1, 40),
    (160, 5, 1, 48), (144, 3, 1, 48), (192, 3, 1, 48), (240, 7, 2, 96), (384, 5, 1, 96), (384, 5, 1, 96),
    (576, 3, 1, 160),
)  # fmt: skip
STEM, CLASSES, COARSE = 16.0, 10.0, 4.0
# Weights that change: the blocks' first convolutions and the share of their input channels; the head whole.
TUNED = {9: 12.0 / 48.0, 10: 24.0 / 48.0, 11: 24.0 / 48.0}
# Biases that change: from the depthwise convolution of this block on.
FROM = 8


@cache
def network() -> tuple[tuple[Unit, ...], dict[str, int]]:
    """(MCUNet for images of 128 pixels a side, the number of each convolution by name)."""
    units: list[Unit] = []
    numbers: dict[str, int] = {}

    def put(
        name: str, c_in: float, c_out: float, kernel: float, stride: float, side: float, groups: float = 1.0
    ) -> None:
        numbers[name] = len(units)
        conv = Conv(name, c_in, c_out, kernel, stride, groups, side / COARSE, bias=True, activated=True)
        units.append(Unit(conv, (len(units) - 1,)))

    width, side = STEM, 64.0
    put("v0", 3.0, STEM, 3.0, 2.0, side)
    for number, (wide, kernel, stride, narrow) in enumerate(BLOCKS, 1):
        at = len(units) - 1
        if wide:
            put(f"v{number}_0", width, wide, 1.0, 1.0, side)
        inner = float(wide or width)
        put(f"v{number}_1", inner, inner, kernel, stride, side / stride, groups=inner)
        side /= stride
        put(f"v{number}_2", inner, narrow, 1.0, 1.0, side)
        if stride == 1 and narrow == width:
            units.append(Unit(None, (at, len(units) - 1)))
        width = float(narrow)
    # The mean over the last grid lies beside the head's operand, which it is.
    units.append(Unit(Conv("head", width, CLASSES, 1.0, scale=1.0 / COARSE, bias=True), (len(units) - 1,)))
    numbers["head"] = len(units) - 1
    assert units[0].reads == (IMAGE,)
    return tuple(units), numbers


def sparse() -> Tuning:
    """What the authors' graph updates."""
    numbers = network()[1]
    weights = {numbers[f"v{block}_0"]: share for block, share in TUNED.items()}
    return Tuning({**weights, numbers["head"]: 1.0}, biases=numbers[f"v{FROM}_1"])


def memory(tuning: Tuning) -> TunedMemory:
    return tuned(network()[0], COARSE**2, tuning, fmt("int8"))


def sram(tuning: Tuning) -> float:
    """kB of what lies there at once, and of the weights that change; those that stay are read from flash."""
    m = memory(tuning)
    return (m.peak + m.tuned) / 1e3


PAPER = Paper(
    slug="on-device-training-256kb",
    title="On-Device Training Under 256KB Memory",
    source="arXiv:2206.15472",
    mechanism="Int8 training that updates few layers and channels, its way back pruned and laid out at compile time.",
    claims=(
        Claim("SRAM that training takes", 256.0, "kB", "at-most", "abstract",
              lambda: sram(contrast(whole(network()[0]), sparse())), metric="memory"),
        Claim("flash that training takes", 1.0, "MB", "at-most", "abstract",
              lambda: memory(sparse()).weights / 1e6, metric="memory", why="weights alone, without the program"),
        Claim("memory of PyTorch and TensorFlow over it", 1000.0, "x", "at-least", "abstract", metric="memory",
              missing=NEEDS_FEATURE,
              why="Some 300 MB that frameworks hold beside tensors on a computer: code, pools and interpreters."),
    ),
    assumptions=(
        "The network, its image of 128 pixels a side and what is updated are those of the authors' published graph "
        "(tinyengine, assets/49kb-int8-graph.json): biases from the depthwise convolution of block 8 on, half or a "
        "quarter of the input channels of the first convolutions of blocks 9 to 11, and the head.",
        "Weights and activations in 8 bits, biases and gradients in 32, one image at a time; a gradient is applied as "
        "soon as it is there; activation functions keep the sign of an element.",
    ),
)  # fmt: skip
