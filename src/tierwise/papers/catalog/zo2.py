"""ZO2 (arXiv:2503.12668): zeroth-order fine-tuning whose layers come from the host's memory, one at a time."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from tierwise.models.blocks.ends import Head
from tierwise.models.load import load_model
from tierwise.models.types import Model
from tierwise.papers.base import Layout, contrast, driver, segments
from tierwise.papers.types import Claim, Paper

GiB = 2.0**30
MACHINE = "1xa100-sxm-80gb"
# GPU memory of a fine-tuning step, "GB" (README of the authors' repository).
TABLE = {"1.3b": 3.75, "2.7b": 4.14, "6.7b": 4.99, "13b": 6.18, "30b": 8.86, "66b": 12.07, "175b": 18.04}
HERE, AWAY = Layout(global_batch=1.0, seq=2048.0), Layout(global_batch=1.0, seq=2048.0, offload=2.0)


@cache
def untied(name: str) -> Model:
    """An OPT whose head is a matrix of its own, as the authors' script makes it."""
    model = load_model(name)
    after = tuple(Head(model.hidden, model.vocab) if b.facts().tied else b for s in model.stacks for b in s.after)
    return replace(model, stacks=tuple(replace(s, after=after) for s in model.stacks))


def used(name: str, layout: Layout) -> float:
    """GiB that the driver calls used after steps: what the allocator took from it, and what it keeps itself."""
    taken = segments(untied(name), MACHINE, layout, "fsdp", parameters=2.0, gradients=0.0, master=0.0, optimizer="sgd",
                     forwards=2.0, noise=4.0, score=8.0, precision="fp16", flash=False)  # fmt: skip
    return (taken + driver(MACHINE)) / GiB


def row(size: str, published: float) -> Claim:
    return Claim(f"GPU memory, OPT-{size.upper()}", published, "GB", "memory", "README, table",
                 lambda: used(f"opt-{size}", contrast(HERE, AWAY)), extra=True)  # fmt: skip


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
        "Embedding and head stay on the device; a layer goes out before the next is worked on and the one behind that "
        "comes in, so that two are there (zo2/model/huggingface/opt/mezo_sgd/zo2.py as of the table, 2025-02-23; an "
        "earlier reading of three gives 1 to 10 % too much from 6.7B on). 10 bytes a logit: two passes' logits and "
        "their shifted copies in 16 bits, and one softmax.",
        "An update holds four tensors as large as its weight: noise, slope times noise, decayed weight, their sum "
        "(zo2/optimizer/mezo_sgd/zo.py).",
        "Scores are written, 8 bytes each at once: transformers 4.28 (env.yml as of the table) has no fused attention "
        "for OPT; a score, its softmax in fp32 and the cast of that.",
        "The abstract says that almost no time is added, which is no number.",
    ),
)  # fmt: skip
