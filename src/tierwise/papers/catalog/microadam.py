"""MicroAdam (arXiv:2405.15593): Adam made of a hundredth of each of the last ten gradients."""

from __future__ import annotations

from functools import cache, partial

from tierwise.papers.base import Layout, contrast, trained
from tierwise.papers.types import Claim, Paper

GiB = 2.0**30
# Of section 3.2, for Llama-2-7B: optimizer and what its states take.
STATES = (("adamw-bf16", "AdamW, bf16", 25.10), ("adamw-8bit", "AdamW, 8 bits", 12.55),
          ("microadam", "MicroAdam", 5.65))  # fmt: skip
# The same, which no text at hand has.
UNREAD = (("adamw", "AdamW, fp32", 50.21),)


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
        Claim(f"optimizer states of Llama-2-7B, {label}", published, "GiB", "memory",
              "section 3.2, as arXiv:2506.21374 takes it over (appendix G)", partial(kept, name), extra=True)
        for name, label, published in STATES
    )
    + tuple(
        Claim(f"optimizer states of Llama-2-7B, {label}", published, "GiB", "memory", "section 3.2",
              partial(kept, name), extra=True, unread=True)
        for name, label, published in UNREAD
    ),
    assumptions=(
        "Ten gradients, a hundredth of each, as the authors set (MicroAdam's m and k), each value and its place in 16 "
        "bits; what is left out in four bits.",
        "G are GiB: 6.74 billion parameters of 4 bytes are 26.95e9 bytes.",
        "The paper's numbers were written down from memory before running, its text not at hand, and compared later "
        "with those that a second paper takes over from it, with formats and counts. It has none of moments in fp32, "
        "which stay unread, and none of GaLore's, which are left out.",
    ),
)  # fmt: skip
