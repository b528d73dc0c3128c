"""COSMA (arXiv:2311.18246): the order of a network's operators, where tensors lie in a scratchpad, and which leave it
are chosen together."""

from __future__ import annotations

from functools import cache

from tierwise.papers.base import contrast, spilled
from tierwise.papers.catalog._dnns import TEN
from tierwise.papers.types import NEEDS_FEATURE, Claim, Paper


@cache
def both(name: str) -> tuple[float, float]:
    """Bytes moved beyond the compulsory ones: (in the order given, by first-fit and Belady; at best)."""
    return spilled(TEN[name]())


def usual(name: str) -> float:
    return both(name)[0]


def least(name: str) -> float:
    return both(name)[1]


def saved(*names: str) -> float:
    """Percent of the usual bytes that are not moved, on the mean over networks that move any."""
    shares = [1.0 - contrast(usual, least)(name) / usual(name) for name in names if usual(name) > 0.0]
    return 100.0 * sum(shares) / len(shares)


PAPER = Paper(
    slug="cosma",
    title="COSMA: Combined Scheduling, Memory Allocation and Tensor Replacement for Minimizing Off-Chip Data Accesses "
          "of DNN Accelerators",
    source="arXiv:2311.18246",
    mechanism="An integer program chooses operator order, addresses and which tensors leave a scratchpad together.",
    claims=(
        Claim("non-compulsory accesses removed, on the average of ten networks", 84.0, "%", "count", "abstract",
              lambda: saved(*TEN),
              why="All of it in six networks of convolutions; 54 % in DenseNet, 66 in ViT, 33 in R(2+1)D, 32 in the "
                  "transformer, each at the bound of any schedule: which operators the authors join to one, how long "
                  "their transformer's sequences are, and which of the four usual ways they divide by, decides these."),
        Claim("accesses removed on networks of architecture search, on the average", 85.0, "%", "count", "abstract",
              missing=NEEDS_FEATURE,
              why="The search stops short of its bounds: of the graphs of HMCOS, with which the authors compare (526 "
                  "to 730 operators), a minute each saves 76 % of DARTS, at its bound, and 54 to 68 % of the three "
                  "others, whose bounds are 73 to 80."),
    ),
    assumptions=(
        "The ten networks, 8 bits, images of 224 pixels and clips of 16 of them, a scratchpad of what the "
        "largest operator reads and writes, PyTorch's order with TensorFlow Lite's allocation and Belady's replacement "
        "for comparison: section V as notes of an independent reproduction quote it (cosma/docs, results_plan.md and "
        "paper_model_roster.md). Activations alone, the first of its two settings.",
        "Of DenseNet and ResNeXt the usual 121 and 50 layers; a transformer of 128 tokens.",
        "Tensors go into the lowest gap that holds them, where TensorFlow Lite takes the smallest; networks that the "
        "usual way moves nothing of are left out of the average. Fixed before anything was computed.",
    ),
)  # fmt: skip
