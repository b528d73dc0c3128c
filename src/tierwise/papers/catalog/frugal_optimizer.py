"""FRUGAL (arXiv:2411.07837): a share of each matrix is updated by Adam, the rest by the sign of its gradient."""

from __future__ import annotations

from functools import cache, partial

from tierwise.papers.base import Layout, contrast, trained
from tierwise.papers.catalog._llama import SIZES, llama
from tierwise.papers.types import Claim, Paper

GiB = 2.0**30
# Of the table of pretraining: method, optimizer, share of the matrices, GiB of its states for each model.
TABLE = (
    ("Adam", "adamw", 1.0, (0.43, 1.00, 2.74, 9.98)),
    ("GaLore, a quarter", "galore", 0.25, (0.30, 0.54, 1.10, 3.41)),
    ("BAdam, a quarter", "frugal", 0.25, (0.29, 0.52, 1.05, 3.23)),
    ("FRUGAL, a quarter", "frugal", 0.25, (0.29, 0.52, 1.05, 3.23)),
    ("FRUGAL, nothing", "frugal", 0.0, (0.24, 0.37, 0.49, 0.98)),
)


@cache
def states(size: str, optimizer: str, share: float) -> float:
    """GiB of optimizer states, weights in fp32."""
    rank = share * SIZES[size][1] if optimizer == "galore" else share
    step = trained(llama(size), "1xa100-sxm-80gb", Layout(), "fsdp", parameters=4.0, gradients=4.0, master=0.0,
                   optimizer=optimizer, projection=rank)  # fmt: skip
    return float(step.memory.parts["optimizer states"]) / GiB


def kept(size: str, optimizer: str, share: float) -> float:
    return states(size, *contrast(("adamw", 1.0), (optimizer, share)))


PAPER = Paper(
    slug="frugal-optimizer",
    title="FRUGAL: Memory-Efficient Optimization by Reducing State Overhead for Scalable Training",
    source="arXiv:2411.07837",
    mechanism="Adam's states are kept for a share of each layer's matrices; the rest has none.",
    claims=tuple(
        Claim(f"optimizer states of Llama-{size}, {label}", published[i], "GiB", "memory", "table of pretraining",
              partial(kept, size, how, share), extra=True, unread=True,
              why="the table counts about a byte for each element of GaLore's projections, and each is kept in fp32 "
              "by the authors' code (frugal/galore_projector.py)" if how == "galore" else "")
        for label, how, share, published in TABLE
        for i, size in enumerate(SIZES)
    ),
    assumptions=(
        "Models as the authors arrange them (fzmushko/FRUGAL, configs/), embedding and head apart; fp32 with mixed "
        "precision (scripts/benchmark_c4, --dtype fp32 --amp), so that moments are in fp32.",
        "Embedding, head and norms keep Adam's two moments whatever the share (README: 'fraction of the total space "
        "in Linear layers'). G are GiB.",
        "BAdam keeps as much of what it updates as FRUGAL does; the quarter is GaLore's rank over the width "
        "(README: density=0.25).",
        "The paper's numbers are as remembered, written down before running; its text was not at hand.",
    ),
)  # fmt: skip
