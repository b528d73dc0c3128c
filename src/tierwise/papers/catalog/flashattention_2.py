"""FlashAttention-2 (arXiv:2307.08691): exact attention in tiles, fewer operations that are no products, blocks over the
sequence as well, and less traffic between the warps of a block."""

from __future__ import annotations

from functools import cache

import numpy as np

import tierwise as tw
from tierwise.models.blocks.attention import Attention
from tierwise.models.types import Layer, Model, Stack
from tierwise.papers.base import Layout, scenario, trained, training_rate
from tierwise.papers.catalog._gpt import gpt
from tierwise.papers.types import NEEDS_FEATURE, Claim, Paper

TOKENS, WIDTH = 16384.0, 2048.0
LENGTHS = np.asarray(2.0 ** np.arange(9, 15))
PEAK = 312e12  # 16-bit FLOP a second of the GPU, over which the paper takes its shares
# Layers, width and heads of GPT-3's sizes of 1.3 and 2.7 billion (arXiv:2005.14165, table 2.1), which section 4.2
# trains.
TRAINED = {"GPT3-1.3B": (24, 2048.0, 16.0), "GPT3-2.7B": (32, 2560.0, 32.0)}
MICRO_BATCHES = np.asarray(2.0 ** np.arange(0, 5))


@cache
def utilization(head: float, causal: bool) -> tuple[float, ...]:
    """Per cent of the GPU's 16-bit peak at every length, of the attention alone."""
    heads = WIDTH / head
    block = Attention(WIDTH, heads, heads, head, causal=causal)
    model = Model("attention", "attention", WIDTH, 0.0, (Stack("decoder", (Layer("attention", (block,)),), (0,)),))
    traffic = tw.Batch(prompt=LENGTHS, output=1, batch=TOKENS / LENGTHS)
    whole = scenario(model, "1xa100-sxm-80gb", traffic).with_plan(chunk=1e12)
    phase = tw.evaluate(whole).phase("prefill")
    time = np.asarray(phase.total(lambda p: p.cost.time if p.op.kind == "attention" else 0.0) * phase.passes)
    half = LENGTHS**2 * TOKENS / LENGTHS * WIDTH * 4.0 / (2.0 if causal else 1.0)
    return tuple(100.0 * half / time / PEAK)


@cache
def training(name: str, context: float) -> float:
    """FLOP/s of a GPU with the fastest of the micro-batches that fit, data-parallel over eight."""
    layers, width, heads = TRAINED[name]
    model = gpt(name, layers, width, heads, vocab=50257.0)
    rows = Layout(dp=8.0, micro_batch=MICRO_BATCHES, global_batch=8.0 * MICRO_BATCHES, seq=context)
    step = trained(model, "8xa100-sxm-80gb", rows, "fsdp")
    # The authors' count: all of attention's scores, none of them left out behind a mask.
    flops = (6.0 * float(model.parameters) + 12.0 * layers * width * context) * context * rows.global_batch
    return float(np.max(np.where(step.memory.fits, training_rate(step, flops), 0.0)))


def fastest() -> float:
    """The same, over both models, in contexts of 2 and 8 thousand tokens."""
    return max(training(name, context) for name in TRAINED for context in (2048.0, 8192.0))


def sweep() -> list[float]:
    """Every point of the benchmark."""
    return [x for head in (64.0, 128.0) for causal in (False, True) for x in utilization(head, causal)]


_OLD = "FlashAttention's first kernel: one block a head, and half its vector work, is not in the engine."
_LOW = (
    "Serving engines' attention as it was measured on this GPU, at its least with a causal mask in short sequences, "
    "where few tiles are whole. The paper's own kernels lose less there."
)
_TRAINED = (
    "What an FSDP run of 2023 to 2025 reaches. The authors fuse the loss, dropout with norms and the feed-forward "
    "layer's kernels, of which no measurement is at hand."
)

PAPER = Paper(
    slug="flashattention-2",
    title="FlashAttention-2: Faster Attention with Better Parallelism and Work Partitioning",
    source="arXiv:2307.08691",
    mechanism="Tiles of queries walk the keys with a running softmax; every tile is a block of its own.",
    claims=(
        Claim("share of the GPU's peak, lowest of lengths and heads", 50.0, "%", "ratio", "abstract (50 to 73 %)",
              lambda: min(sweep()), why=_LOW),
        Claim("share of the GPU's peak, highest of lengths and heads", 73.0, "%", "ratio", "abstract (50 to 73 %)",
              lambda: max(sweep()), why="Serving engines' attention as it was measured on this GPU."),
        Claim("FlashAttention over optimised baselines", (2.0, 4.0), "x", "ratio", "abstract (background)",
              missing=NEEDS_FEATURE, why=_OLD),
        Claim("share of the GPU's peak, FlashAttention", (25.0, 40.0), "%", "ratio", "abstract (background)",
              missing=NEEDS_FEATURE, why=_OLD),
        Claim("over FlashAttention", 2.0, "x", "ratio", "abstract", missing=NEEDS_FEATURE, why=_OLD),
        Claim("training of GPT-style models", 225.0, "TFLOP/s", "up-to", "abstract (72 % of the GPU's peak)",
              lambda: fastest() / 1e12, why=_TRAINED),
    ),
    assumptions=(
        "One A100 80GB SXM, forward, 16k tokens in sequences of 512 to 16k, a width of 2048 in heads of 64 or 128, "
        "with and without causal mask, whose arithmetic is counted half (section 4.1, as recalled, not re-checked).",
        "The kernels are those of serving engines on this GPU, fitted to measurements made in 2025.",
        "The abstract's range is read as the ends of that sweep.",
        "Training: data-parallel on eight GPUs, sequences of 2k and 8k, nothing recomputed, the fastest micro-batch up "
        "to 16 that fits, one of them a step, arithmetic by the authors' formula (section 4.2, as recalled, not "
        "re-checked).",
    ),
)  # fmt: skip
