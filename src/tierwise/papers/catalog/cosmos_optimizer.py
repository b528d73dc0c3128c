"""COSMOS (arXiv:2502.17410): SOAP on the leading subspace of a gradient, Muon on the rest of it."""

from __future__ import annotations

from functools import cache

from tierwise.papers.base import Layout, contrast, trained
from tierwise.papers.catalog._llama import SIZES, llama
from tierwise.papers.types import NEEDS_SETUP, Claim, Paper

GiB = 2.0**30


@cache
def states(optimizer: str) -> float:
    """GiB of optimizer states, weights in fp32 and no copy of them beside; the rank is 5 % of the width."""
    step = trained(llama("1B"), "1xa100-sxm-80gb", Layout(), "fsdp", parameters=4.0, gradients=4.0, master=0.0,
                   optimizer=optimizer, projection=0.05 * SIZES["1B"][1])  # fmt: skip
    return float(step.memory.parts["optimizer states"]) / GiB


def below_adam(optimizer: str) -> float:
    return states("adamw") - states(contrast("adamw", optimizer))


PAPER = Paper(
    slug="cosmos-optimizer",
    title="COSMOS: A Hybrid Adaptive Optimizer for Memory-Efficient Training of LLMs",
    source="arXiv:2502.17410",
    mechanism="One moment of each matrix, and second moments in its leading subspace alone.",
    claims=(
        Claim("memory of training a Llama of 1.3 billion below Adam's, Muon", 62.75 - 58.25, "GiB", "memory",
              "table of memory, LLaMA-1B: 62.75 and 58.25", lambda: below_adam("muon"), extra=True),
        Claim("memory of training a Llama of 1.3 billion below Adam's, COSMOS", 62.75 - 58.47, "GiB", "memory",
              "table of memory, LLaMA-1B: 62.75 and 58.47", lambda: below_adam("cosmos"), extra=True),
        Claim("memory of training a Llama of 1.3 billion below SOAP's, COSMOS", 72.58 - 58.47, "GiB", "memory",
              "table of memory, LLaMA-1B: 72.58 and 58.47", missing=NEEDS_SETUP, extra=True,
              why="which sides of a matrix SOAP preconditions here, and in which format, is not in what we could read. "
              "The paper counts 66 d² numbers a layer of 12 d² parameters, one matrix for each side of each weight "
              "beside two moments: on this model's shapes 16.4 GiB"),
    ),
    assumptions=(
        "The model as GaLore's repository arranges it (configs/llama_1b.json: 24 layers, width 2048, inner 5461, "
        "32000 tokens).",
        "Embedding, head and norms keep Adam's two moments; states in fp32. The rank is 5 % of the width, as in the "
        "paper's count of memory; it states 64 for its smallest model.",
        "Numbers of the memory table as reading notes on the paper quote it; weights, gradients and activations are "
        "the same in each row, so that differences are of states. G are GiB.",
    ),
)  # fmt: skip
