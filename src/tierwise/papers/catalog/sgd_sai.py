"""SGD-SaI (arXiv:2412.11768): learning rates scaled once, at initialization, in place of Adam's second moment."""

from __future__ import annotations

from functools import cache

from tierwise.papers.base import Layout, contrast, trained
from tierwise.papers.types import Claim, Paper

GiB = 2.0**30


@cache
def states(model: str, optimizer: str) -> float:
    """GiB that an optimizer keeps, weights in fp32 and no copy of them beside."""
    step = trained(model, "1xa100-sxm-80gb", Layout(), "fsdp", parameters=4.0, gradients=4.0, master=0.0,
                   optimizer=optimizer)  # fmt: skip
    return float(step.memory.parts["optimizer states"]) / GiB


def saved(model: str) -> float:
    return states(model, "adamw") - states(model, contrast("adamw", "sgd-momentum"))


PAPER = Paper(
    slug="sgd-sai",
    title="No More Adam: Learning Rate Scaling at Initialization is All You Need",
    source="arXiv:2412.11768",
    mechanism="One moment a parameter where AdamW keeps two.",
    claims=(
        Claim("memory of optimizer states below AdamW's, GPT-2 of 1.5 billion", 5.93, "GiB", "memory", "abstract",
              lambda: saved("gpt2-xl")),
        Claim("memory of optimizer states below AdamW's, Llama-2-7B", 25.15, "GiB", "memory", "abstract",
              lambda: saved("llama-2-7b")),
        Claim("memory of optimizer states over AdamW's", 50.0, "%", "memory", "abstract",
              lambda: 100.0 * states("llama-2-7b", "sgd-momentum") / states("llama-2-7b", "adamw"), identity=True,
              why="one moment over two"),
    ),
    assumptions=(
        "Full-precision training (abstract): moments in fp32. What the abstract calls GB are GiB: Llama-2-7B has 6.74 "
        "billion parameters, and 25.15e9 bytes would be less than four for each.",
        "Optimizer of the authors' code: momentum alone (SGD_SaI, sgd_sai/sgd_sai.py).",
    ),
)  # fmt: skip
