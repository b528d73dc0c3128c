"""MicroAdam (arXiv:2405.15593): Adam made of a hundredth of each of the last ten gradients."""

from __future__ import annotations

from functools import cache, partial

from tierwise.papers.base import Layout, contrast, trained
from tierwise.papers.types import Claim, Paper

GiB = 2.0**30
# Of section 3.2, for Llama-2-7B: optimizer and what its states take.
STATES = (("adamw", "AdamW, fp32", 50.21), ("adamw-bf16", "AdamW, bf16", 25.10), ("adamw-8bit", "AdamW, 8 bits", 12.55),
          ("microadam", "MicroAdam", 5.65))  # fmt: skip


@cache
def states(optimizer: str) -> float:
    """GiB that an optimizer keeps, weights in 16 bits and no copy of them beside."""
    step = trained("llama-2-7b", "1xa100-sxm-80gb", Layout(), "fsdp", gradients=2.0, master=0.0, optimizer=optimizer)
    return float(step.memory.parts["optimizer states"]) / GiB


def kept(optimizer: str) -> float:
    return states(contrast("adamw", optimizer))


PAPER = Paper(
    slug="microadam",
    title="MicroAdam: Accurate Adaptive Optimization with Low Space Overhead and Provable Convergence",
    source="arXiv:2405.15593",
    mechanism="Adam's moments are made anew from a few sparse gradients; what these leave out is kept in 4 bits.",
    claims=tuple(
        Claim(f"optimizer states of Llama-2-7B, {label}", published, "GiB", "memory", "section 3.2",
              partial(kept, name), extra=True, unread=True)
        for name, label, published in STATES
    ),
    assumptions=(
        "Ten gradients, a hundredth of each, as the authors set (MicroAdam's m and k).",
        "G are GiB: 6.74 billion parameters of 8 bytes are 53.9e9 of these.",
        "The paper's numbers are as remembered, written down before running; its text was "
        "not at hand. What the section says of GaLore is left out: no number of it was remembered for sure.",
    ),
)  # fmt: skip
