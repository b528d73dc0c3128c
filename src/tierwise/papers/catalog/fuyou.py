"""Fuyou, later LoHan and Ratel (arXiv:2403.06504): weights and states of a model lie on a server's disks, and its host
updates a layer while the one GPU is at the backward pass of those before it."""

from __future__ import annotations

from functools import cache

import numpy as np

from tierwise.models.blocks.attention import Attention
from tierwise.models.blocks.ends import Embedding
from tierwise.models.blocks.mlp import MLP
from tierwise.models.family import pre_norm, stack
from tierwise.models.types import Model
from tierwise.papers.base import Layout, TrainStep, contrast, trained
from tierwise.papers.types import NEEDS_SETUP, Claim, Paper

VOCAB, SEQ = 50257.0, 1024.0
# Layers, width, heads.
SIZES = {"13B": (40, 5120.0, 40.0), "175B": (96, 12288.0, 96.0)}
SERVER = "1xrtx4090 + 2x xeon-8380 + 768GB ddr4 + {}x nvme-gen4-dc"
DISKS = 12
# Disks, sequences of a batch and TFLOP/s of 13B (evaluation_data.md, figures 5, 7 and 10; 32 sequences ran twice).
Published = float | tuple[float, float]
TABLE: tuple[tuple[int, int, Published], ...] = (
    (12, 8, 42.8), (12, 16, 84.3), (12, 32, (142.0, 143.1)), (12, 128, 153.8), (1, 32, 37.5), (1, 48, 53.1),
    (1, 64, 70.3), (2, 32, 64.3), (2, 48, 89.7), (2, 64, 111.7), (3, 32, 81.1), (3, 48, 121.7), (3, 64, 136.3),
    (6, 32, 121.7), (6, 48, 146.3), (6, 64, 151.5), (12, 48, 153.9), (12, 64, 148.2),
)  # fmt: skip
LARGE = ((8, 52.6), (16, 86.9))


@cache
def model(size: str) -> Model:
    """A GPT without a head: the authors' script compares the last layer's output with noise."""
    depth, width, heads = SIZES[size]
    attention = Attention(width, heads, heads, width / heads, qkv_bias=True, out_bias=True)
    layer = pre_norm("layer", width, attention, MLP(width, 4.0 * width, gated=False, bias=True), bias=True)
    return Model(f"gpt-{size}", "gpt", width, VOCAB,
                 (stack("decoder", [layer] * int(depth), before=(Embedding(VOCAB, width),)),))  # fmt: skip


@cache
def step(size: str, disks: int, batch: float, early: float = 1.0) -> TrainStep:
    """A step whose weights and states lie on disks; ``early``: 1 where updates run beside the backward pass."""
    x = Layout(micro_batch=batch, global_batch=batch, seq=SEQ, recompute=2.0, offload=2.0, offload_activations=1.0,
               offload_disk=1.0, early_update=early)  # fmt: skip
    return trained(model(size), SERVER.format(disks), x, "fsdp", parameters=2.0, gradients=2.0, master=4.0,
                   precision="fp16")  # fmt: skip


def beside(size: str, disks: int, batch: float) -> TrainStep:
    return step(size, disks, batch)


def late(size: str, disks: int, batch: float) -> TrainStep:
    """The same with the update behind the backward pass."""
    return step(size, disks, batch, 0.0)


def rate(size: str, disks: int, batch: float) -> float:
    """TFLOP/s, forward passes for recomputation counted: four times a forward pass's arithmetic."""
    found = contrast(late, beside)(size, disks, batch)
    return float(found.flops / 3.0 * 4.0 / found.time) / 1e12


def largest() -> float:
    """Billions of parameters, as their names say, of the largest of both models whose states, activations and weights
    lie where there is room, a sequence at a time."""
    fitting = [float(size.rstrip("B")) for size in SIZES if np.all(step(size, DISKS, 1.0).memory.fits)]
    return max(fitting, default=0.0)


_CARD = (
    "Large batches are the card's arithmetic, for which 156 TFLOP/s of its 165 are published: products are priced at "
    "four fifths, as those of other cards of its kind were measured."
)
_SMALL = (
    "At the smallest batches twelve disks need 19 s for what their rates allow in 7 s, as six and three of them take 4 "
    "to 9 s longer than these: what limits many disks behind one file system, or one process that updates tensor by "
    "tensor, is not priced."
)


def _row(size: str, disks: int, batch: int, published: Published) -> Claim:
    name = f"{size}, {batch} sequences, {disks} disk{'s' if disks > 1 else ''}"
    source = "evaluation_data.md of the authors' repository (Crispig/Ratel)"
    return Claim(name, published, "TFLOP/s", "absolute", source, lambda: rate(size, disks, batch), extra=True,
                 why=_SMALL if batch <= 16 or disks == 3 else _CARD)  # fmt: skip


PAPER = Paper(
    slug="fuyou",
    title="Adding NVMe SSDs to Enable and Accelerate 100B Model Fine-tuning on a Single GPU",
    source="arXiv:2403.06504",
    mechanism="Weights and states come from disks; the host updates layers while the backward pass goes on.",
    claims=(
        Claim("FLOP/s of fine-tuning GPT-3 13B on an RTX 4090", 156.0, "TFLOP/s", "absolute",
              "abstract; evaluation_data.md (155.8 with 64 sequences)", lambda: rate("13B", DISKS, 64), why=_CARD),
        Claim("FLOP/s of ZeRO-Infinity on the same", 45.0, "TFLOP/s", "absolute", "abstract", missing=NEEDS_SETUP,
              why="Updates behind the backward pass come to 33 TFLOP/s with 4 sequences, 51 with 8 and 101 with 64: "
                  "which batch the authors gave it, and how it read its disks, was not found."),
        Claim("parameters that fit, GPT-3 175B on an RTX 4090", 175.0, "B", "at-least", "abstract", largest,
              metric="capacity"),
        *(_row("13B", *row) for row in TABLE),
        *(_row("175B", DISKS, *row) for row in LARGE),
    ),
    assumptions=(
        "Two Xeon Gold 5320 with 768 GB on 16 channels of DDR4-3200, an RTX 4090 and up to twelve D7-P5510 (tables of "
        "the repository's evaluation_data.md): processors are taken for Xeon 8380, whose memory is the same, and disks "
        "for data-center drives of PCIe 4.0 at 6.8 and 4 GB/s.",
        "Sequences of 1024 tokens, 16-bit weights and gradients, states in fp32, FlashAttention, no head: the loss is "
        "taken of the last layer's output (main.py, gpt_model.py). Blocks are computed again, their inputs are in the "
        "host's memory (run.sh: is_swap_and_recompute 0).",
        "How the authors count FLOP is not in the repository. The card would have to run more than its 165 TFLOP/s if "
        "recomputation did not count, so four forward passes' arithmetic does, attention included: without it rates "
        "are 3 % lower.",
        "One array of equal disks reads and writes in turn; reads, writes, the host's update and both directions of "
        "the link run beside the backward pass, and the slowest sets the pace.",
    ),
)  # fmt: skip
