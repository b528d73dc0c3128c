"""SlimSAM (arXiv:2312.05284): the image encoder of Segment Anything, its embedding and inner widths pruned."""

from __future__ import annotations

from functools import cache

import tierwise as tw
from tierwise.models.blocks.common import Norm
from tierwise.models.blocks.conv import Conv
from tierwise.models.blocks.patch import PatchEmbed
from tierwise.models.family import stack
from tierwise.models.types import Block, Layer, Model
from tierwise.papers.base import contrast, scenario
from tierwise.papers.types import NEEDS_FEATURE, Claim, Paper

SIDE, PATCH, WINDOW, NECK = 1024.0, 16.0, 14.0, 256.0
GRID = SIDE / PATCH
# Windows of 14 cover a grid of 64 with 5 x 5 of them: their projections run over 70 x 70 positions.
PADDED = -(-GRID // WINDOW) * WINDOW / GRID
# Width, inner width, layers, layers that attend to everything.
SLIM, HUGE = (168.0, 696.0, 12, 4), (1280.0, 5120.0, 32, 4)


def _linear(name: str, a: float, b: float, scale: float = 1.0) -> Conv:
    return Conv(name, a, b, 1.0, scale=scale, bias=True)


@cache
def encoder(width: float, inner: float, layers: int, whole: int) -> Model:
    """The layers that have weights; attention's own products have none and are left out, as the authors' counter leaves
    them."""

    def layer(scale: float) -> tuple[Block, ...]:
        return (
            Norm(width, bias=True), _linear("qkv", width, 3.0 * width, scale), _linear("proj", width, width, scale),
            Norm(width, bias=True), _linear("up", width, inner), _linear("down", inner, width),
        )  # fmt: skip

    rows = [Layer("windows", layer(PADDED))] * (layers - whole) + [Layer("whole", layer(1.0))] * whole
    ends = (Conv("neck1", width, NECK, 1.0), Norm(NECK, bias=True), Conv("neck2", NECK, NECK, 3.0),
            Norm(NECK, bias=True))  # fmt: skip
    tower = stack("vision", rows, before=(PatchEmbed(3.0, PATCH, width, GRID**2),), after=ends, stream="vision",
                  tokens=GRID**2, patch=PATCH)  # fmt: skip
    return Model("sam-encoder", "sam", width, 0.0, (tower,), task="classify")


@cache
def multiply_adds(of: tuple[float, float, int, int]) -> float:
    """Billions of one image in layers with weights."""
    traffic = tw.Batch(prompt=1, output=1, batch=1, image_size=SIDE)
    pass_ = tw.evaluate(scenario(encoder(*of), "1xt4", traffic)).phase("vision")
    return float(pass_.total(lambda p: p.op.flops if p.op.kind == "conv" else 0.0)) / 2e9


def parameters(of: tuple[float, float, int, int]) -> float:
    return float(encoder(*of).parameters) / 1e6


PAPER = Paper(
    slug="slimsam",
    title="0.1% Data Makes Segment Anything Slim",
    source="arXiv:2312.05284",
    mechanism="Embedding and inner widths of an image encoder are pruned in turn and distilled.",
    claims=(
        Claim("parameters of the image encoder", 5.7, "M", "count", "abstract (v1)",
              lambda: parameters(contrast(HUGE, SLIM))),
        Claim("parameters over those of SAM-H", 0.9, "%", "count", "abstract (v1)",
              lambda: 100.0 * parameters(contrast(HUGE, SLIM)) / parameters(HUGE)),
        Claim("multiply-adds of the image encoder", 21.0, "G", "count", "abstract (v1)",
              lambda: multiply_adds(contrast(HUGE, SLIM))),
        Claim("multiply-adds over those of SAM-H", 0.8, "%", "count", "abstract (v1)",
              lambda: 100.0 * multiply_adds(contrast(HUGE, SLIM)) / multiply_adds(HUGE)),
        Claim("training data of SAM needed", 0.1, "%", "count", "abstract", metric="quality", missing=NEEDS_FEATURE,
              why="What a result needs of data is measured, no cost."),
        Claim("training cost of other compressions over this", 10.0, "x", "at-least", "abstract", metric="quality",
              missing=NEEDS_FEATURE, why="As above: the data are what differs."),
    ),
    assumptions=(
        "SlimSAM-77: width 168, inner width 696, 12 layers, windows of 14 in all but four; SAM-H 1280, 5120, 32 "
        "(segment_anything/build_sam.py of the authors' repository). Their counter (torch_pruning) is run on the image "
        "encoder alone and counts modules with weights (inference.py, prune_funcs.py).",
        "Tables of relative positions, 0.4 % of the parameters, are left out. Later versions of the abstract count the "
        "mask decoder too: 9.1 million, 23 G.",
    ),
)  # fmt: skip
