"""ZO2 (arXiv:2503.12668): zeroth-order fine-tuning whose layers come from the host's memory, one at a time."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from tierwise.models.blocks.ends import Head
from tierwise.models.load import load_model
from tierwise.models.types import Model
from tierwise.papers.base import Layout, contrast, driver, trained
from tierwise.papers.types import Claim, Paper

GiB = 2.0**30
MACHINE = "1xa100-sxm-80gb"
# GPU memory of a fine-tuning step, "GB" (README of the authors' repository).
LESS = ("What the allocator has cached counts as used: it keeps blocks of scores, of logits and of noise side by side, "
        "which tensors alone never need at once. PyTorch's rules for blocks, played by hand over the authors' order of "
        "operations, give 3.65 and 4.09 with scores written, 3.04 and 3.57 with fused attention, but 3 to 10 % too "
        "much from 6.7B on. Missing: such an allocator.")  # fmt: skip
TABLE = {"1.3b": 3.75, "2.7b": 4.14, "6.7b": 4.99, "13b": 6.18, "30b": 8.86, "66b": 12.07, "175b": 18.04}
HERE, AWAY = Layout(global_batch=1.0, seq=2048.0), Layout(global_batch=1.0, seq=2048.0, offload=2.0)


@cache
def untied(name: str) -> Model:
    """An OPT whose head is a matrix of its own, as the authors' script makes it."""
    model = load_model(name)
    after = tuple(Head(model.hidden, model.vocab) if b.facts().tied else b for s in model.stacks for b in s.after)
    return replace(model, stacks=tuple(replace(s, after=after) for s in model.stacks))


def used(name: str, layout: Layout) -> float:
    """GiB that the driver reports while a step runs: tensors, and what it keeps itself."""
    step = trained(untied(name), MACHINE, layout, "fsdp", parameters=2.0, gradients=0.0, master=0.0, optimizer="sgd",
                   forwards=2.0, noise=4.0, score=8.0, precision="fp16", flash=False)  # fmt: skip
    return (float(step.memory.peak) + driver(MACHINE)) / GiB


def row(size: str, published: float) -> Claim:
    return Claim(f"GPU memory, OPT-{size.upper()}", published, "GB", "memory", "README, table",
                 lambda: used(f"opt-{size}", contrast(HERE, AWAY)), extra=True, why=LESS)  # fmt: skip


PAPER = Paper(
    slug="zo2",
    title="ZO2: Scalable Zeroth-Order Fine-Tuning for Extremely Large Language Models with Limited GPU Memory",
    source="arXiv:2503.12668",
    mechanism="Both disturbed forward passes go through a layer while it is on the device; others come and go.",
    claims=(
        Claim("GPU memory to fine-tune OPT-175B", 18.0, "GB", "memory", "abstract",
              lambda: used("opt-175b", contrast(HERE, AWAY)),
              why="no bound: the authors' own table has 18.04"),
        *(row(size, published) for size, published in TABLE.items()),
    ),
    assumptions=(
        "One sequence of 2048 tokens in fp16, head and embedding apart, loss over all tokens (authors' repository: "
        "test/mezo_sgd/hf_opt, record_zo2_memory.sh and utils.py). GB are GiB: what NVML calls used, in MiB, over "
        "1024; it holds what the driver keeps, taken from the device's file.",
        "Embedding and head stay on the device, three layers are there at a time (zo2/optimizer/mezo_sgd/zo2.py); "
        "10 bytes a logit: two passes' logits and their shifted copies in 16 bits, and one softmax.",
        "An update holds four tensors as large as its weight: noise, slope times noise, decayed weight, their sum "
        "(zo2/optimizer/mezo_sgd/zo.py).",
        "Scores are written, 8 bytes each at once: transformers 4.28 (env.yml) has no fused attention for OPT; a "
        "score, its softmax in fp32 and the cast of that. What the allocator caches beyond the peak is left out.",
        "The abstract says that almost no time is added, which is no number.",
    ),
)  # fmt: skip
