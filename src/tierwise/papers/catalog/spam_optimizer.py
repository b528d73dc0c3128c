"""SPAM (arXiv:2501.06842): Adam whose moments are reset, clipped, and kept for a random share of each matrix alone."""

from __future__ import annotations

from functools import cache, partial

from tierwise.papers.base import Layout, contrast, trained
from tierwise.papers.catalog._llama import SIZES, llama
from tierwise.papers.types import Claim, Paper

GiB = 2.0**30
Way = tuple[str, tuple[float, ...]]
# GaLore's ranks by model (scripts/benchmark_c4 of its repository); SPAM's share of the matrices.
ADAM: Way = ("adamw-bf16", (0.0,) * 4)
GALORE: Way = ("galore-bf16", (128.0, 256.0, 256.0, 512.0))
SPAM: Way = ("spam-bf16", (0.25,) * 4)
# GiB of parameters and optimizer states.
SOURCE = "table of memory-efficient optimizers"
TABLE = (("Adam", ADAM, (0.36, 0.76, 2.06, 7.80)), ("GaLore", GALORE, (0.24, 0.52, 1.22, 4.38)),
         ("SPAM, a quarter", SPAM, (0.24, 0.52, 1.22, 4.38)))  # fmt: skip


@cache
def memory(i: int, way: Way) -> float:
    """GiB of parameters and states of the i-th model, all in 16 bits."""
    name, values = way
    step = trained(llama(list(SIZES)[i]), "1xa100-sxm-80gb", Layout(), "fsdp", parameters=2.0, gradients=2.0,
                   master=0.0, optimizer=name, projection=values[i])  # fmt: skip
    return sum(float(step.memory.parts[k]) for k in ("parameters", "optimizer states")) / GiB


def taken(i: int, way: Way) -> float:
    return memory(i, contrast(ADAM, way))


PAPER = Paper(
    slug="spam-optimizer",
    title="SPAM: Spike-Aware Adam with Momentum Reset for Stable LLM Training",
    source="arXiv:2501.06842",
    mechanism="Moments are kept for a random share of each layer's matrices, drawn anew now and then.",
    claims=tuple(
        Claim(f"parameters and optimizer states of Llama-{size}, {label}", published[i], "GiB", "memory",
              SOURCE if way == SPAM else f"{SOURCE}; arXiv:2403.03507, table 2", partial(taken, i, way), extra=True,
              unread=way == SPAM,
              why="the authors' code has a byte for each element that says whether it has moments "
              "(galore_torch/SPAM.py), which their estimate leaves out" if way == SPAM else "")
        for label, way, published in TABLE
        for i, size in enumerate(SIZES)
    ),
    assumptions=(
        "Models as GaLore's repository arranges them, on which the authors' stands; everything in 16 bits (table's "
        "caption). Embedding, head and norms keep two moments (torchrun_main.py: linear maps of attention and "
        "feed-forward alone).",
        "Rows of low-rank weights (LoRA, ReLoRA) are left out: adapters from the start are no way to pretrain here.",
        "The paper's numbers are as remembered, written down before running; its text was not at hand. Those of Adam "
        "and GaLore are GaLore's, and were compared with GaLore's own table.",
    ),
)  # fmt: skip
