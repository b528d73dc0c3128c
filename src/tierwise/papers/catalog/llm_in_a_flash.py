"""LLM in a flash (arXiv:2312.11514): attention stays in memory; of feed-forward layers only the neurons that the last
few tokens used, and the few that a token uses anew are read from flash."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import tierwise as tw
from tierwise import techniques
from tierwise.models.blocks.mlp import MLP
from tierwise.models.load import load_model
from tierwise.models.types import Block, Model
from tierwise.papers.base import contrast, scenario, stored
from tierwise.papers.types import Claim, Paper

MODEL = "opt-6.7b"
# Of a feed-forward layer's neurons: in memory for a window of five tokens, used by a token, read anew for it.
HELD, USED, FRESH = 0.24, 0.10, 0.024
PREDICTORS = 0.0125  # of the model's size
NAIVE = 0.5  # of the model: what memory has no room for

CPU, GPU = "apple-m1-max-cpu + nvme-gen4", "rtx4090 + 64GB ddr5 + nvme-gen4"


def narrow(model: Model, share: float) -> Model:
    """The model with so many of its feed-forward neurons."""

    def change(block: Block) -> Block:
        return replace(block, inner=share * block.inner) if isinstance(block, MLP) else block

    return model.map_blocks(change)


def of_all(share: float) -> float:
    """Parameters with a share of the feed-forward neurons, of all."""
    model = load_model(MODEL)
    return float(contrast(model, narrow(model, share)).parameters / model.parameters)


def held() -> float:
    """Memory that weights and predictors take, of the model's size."""
    return of_all(HELD) + PREDICTORS


def fresh() -> float:
    """Parameters that a token reads anew, of those that it uses."""
    return (of_all(1.0) - of_all(1.0 - FRESH)) / of_all(USED)


def base(machine: str) -> tw.Scenario:
    """The model as it is, before the disk."""
    traffic = tw.Batch(prompt=128, output=128, batch=1)
    if machine == GPU:
        return scenario(MODEL, machine, traffic, tw.Plan(), under=[techniques.eager("transformers")])
    return stored(scenario(MODEL, machine, traffic, tw.Plan()), "fp32")


@cache
def naive(machine: str) -> float:
    """Seconds a token, half of the model read for each."""
    return float(tw.evaluate(base(machine).apply(techniques.offload_weights(NAIVE, to="nvme"))).tpot)


@cache
def ours(machine: str) -> float:
    """Seconds a token that computes what it uses and reads what is new of it."""
    whole, model = base(machine), load_model(MODEL)
    few = replace(whole, model=contrast(model, narrow(model, USED)))
    return float(tw.evaluate(few.apply(techniques.offload_weights(fresh(), to="nvme"))).tpot)


_CPU = (
    "A token takes 0.12 s here, 0.06 of it reading; the authors read for 0.125 s in pieces of 32 KiB, move rows in "
    "memory for 0.065 s (section 4.1), and compute in PyTorch's 32 bits on some of the cores for longer than both. The "
    "engine prices neither small reads nor rows moved, and kernels as fast as a processor's memory."
)

PAPER = Paper(
    slug="llm-in-a-flash",
    title="LLM in a flash: Efficient Large Language Model Inference with Limited Memory",
    source="arXiv:2312.11514",
    mechanism="Weights lie in flash; only neurons that the last few tokens did not use are read, in larger pieces.",
    claims=(
        Claim("model over the memory it runs in", 2.0, "x", "up-to", "abstract", lambda: 1.0 / held(),
              metric="capacity"),
        Claim("CPU over naive loading", (4.0, 5.0), "x", "ratio", "abstract", lambda: naive(CPU) / ours(CPU),
              why=_CPU),
        Claim("GPU over naive loading", (20.0, 25.0), "x", "ratio", "abstract", lambda: naive(GPU) / ours(GPU),
              blind=True, why="Both sides read the same disk, and what is computed beside is short."),
        Claim("memory of OPT-6.7B, of its size", 52.1, "%", "memory", "section 4.1", lambda: 100.0 * held(),
              extra=True),
    ),
    assumptions=(
        "OPT-6.7B with a window of five tokens: 24 % of the feed-forward neurons in memory, about 10 % used by a "
        "token, 2.4 % read anew, predictors of 1.25 % (section 4.1, as a public copy gives it).",
        "An M1 Max in 32 bits on its CPU cores and an RTX 4090 in 16 bits, in transformers (section 4, likewise); both "
        "disks are taken for drives of PCIe 4.0, read without a page cache.",
        "Naive loading reads the half of the model for which there is no room once a token (as recalled).",
        "What is read is spread evenly over all weights; the disk reads pieces of 32 KiB at its full rate.",
    ),
)  # fmt: skip
