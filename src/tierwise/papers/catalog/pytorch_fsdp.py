"""PyTorch FSDP (arXiv:2304.11277): parameters, gradients and states sharded over all devices, layers gathered ahead of
their use."""

from __future__ import annotations

from functools import cache

import numpy as np

from tierwise.papers.base import Layout, TrainStep, trained, training_rate
from tierwise.papers.catalog._gpt import gpt
from tierwise.papers.types import NEEDS_FEATURE, Claim, Paper

GPUS = np.array([128.0, 192.0, 256.0, 384.0, 512.0])
LAYERS, WIDTH, HEADS, SEQ, VOCAB = 96, 12288.0, 96.0, 2048.0, 50000.0


@cache
def steps(batch: float) -> tuple[TrainStep, ...]:
    """GPT-175B with ``batch`` sequences a GPU, on each number of GPUs."""
    model = gpt("minGPT-175B", LAYERS, WIDTH, HEADS, vocab=VOCAB)
    return tuple(
        trained(model, f"{n:.0f}xa100-sxm-80gb",
                Layout(dp=n, micro_batch=batch, global_batch=n * batch, seq=SEQ, zero=3.0, recompute=2.0),
                "fsdp", flash=False, gradients=4.0, reduced=2.0, dropout=1.0, stops=0.0)
        for n in GPUS
    )  # fmt: skip


def rates(batch: float) -> list[float]:
    """Teraflop/s a GPU, on each number of GPUs."""
    # Layers run forward, again, and backward; the head is not run again. All of attention's scores count.
    inner = 1.0 + SEQ / (6.0 * WIDTH) + VOCAB / (16.0 * LAYERS * WIDTH)
    flops = 96.0 * batch * SEQ * LAYERS * WIDTH**2 * inner * GPUS
    return [float(training_rate(s, f)) / 1e12 for s, f in zip(steps(batch), flops, strict=True)]


def kept() -> float:
    """Per cent of the rate of a GPU at 128 that is left at 512."""
    found = rates(1.0)
    return 100.0 * found[-1] / found[0]


_LATER = "kernels and gathers as in runs of 2024 (llm-foundry); none of the authors' PyTorch of 2022 is on file"

PAPER = Paper(
    slug="pytorch-fsdp",
    title="PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel",
    source="arXiv:2304.11277",
    mechanism="Each layer is gathered beside the work of the one before it, and freed again.",
    claims=(
        Claim("GPT-175B, one sequence a GPU", 173.0, "TFLOP/s", "absolute", "section 5.4", lambda: min(rates(1.0)),
              extra=True, why=_LATER),
        Claim("GPT-175B, two sequences a GPU", 186.0, "TFLOP/s", "absolute", "section 5.4",
              lambda: min(rates(2.0)[1:]), extra=True, why=_LATER),
        Claim("rate of a GPU at 512 over that at 128", 100.0, "%", "ratio", "section 5.4", kept, extra=True, blind=True,
              why="all of the gathering hides behind work at every size, here as there"),
        Claim("gained by gathering ahead in the backward pass", 18.0, "%", "ratio", "section 5.2",
              missing=NEEDS_FEATURE, extra=True, why="a schedule that gathers a layer when the one before is done"),
        Claim("rate of a GPU lost from 8 to 512, T5-11B", 7.0, "%", "ratio", "section 5.4", missing=NEEDS_FEATURE,
              extra=True, why="training of encoders with decoders"),
    ),
    assumptions=(
        "minGPT of 175 billion parameters, vocabulary 50,000, 2,048 tokens, one and two sequences a GPU on 128 to 512 "
        "A100 80GB; full sharding, Adam, bf16, activation checkpointing (section 5.4); a 2 Tb/s RoCE network (5.1), "
        "where the catalog's servers have 1.6 Tb/s.",
        "Shape: GPT-3's 96 layers of 12,288. minGPT's attention writes its scores; it drops out of them and of both "
        "branches (resid_pdrop and attn_pdrop of karpathy/minGPT). Its GELU, eight lines of PyTorch, is one kernel "
        "here.",
        "The authors do not say what they count; 55 % of the peak with recomputation is read as the arithmetic that is "
        "done. Both published numbers are 'more than'; the least of the sizes is held against them, at two sequences "
        "without 128 GPUs, where theirs ran into fragmentation.",
        "Gradients are reduced in bf16 and kept in fp32 (section 4.4). Recomputation runs whole layers: that it stops "
        "early came with PyTorch 2.1, after the paper.",
    ),
)  # fmt: skip
