"""FlashAttention-2 (arXiv:2307.08691): exact attention in tiles, fewer operations that are no products, blocks over the
sequence as well, and less traffic between the warps of a block."""

from __future__ import annotations

from functools import cache

import numpy as np

import tierwise as tw
from tierwise.models.blocks.attention import Attention
from tierwise.models.types import Layer, Model, Stack
from tierwise.papers.base import scenario
from tierwise.papers.types import NEEDS_FEATURE, Claim, Paper

TOKENS, WIDTH = 16384.0, 2048.0
LENGTHS = np.asarray(2.0 ** np.arange(9, 15))
PEAK = 312e12  # 16-bit FLOP a second of the GPU, over which the paper takes its shares


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


def sweep() -> list[float]:
    """Every point of the benchmark."""
    return [x for head in (64.0, 128.0) for causal in (False, True) for x in utilization(head, causal)]


_OLD = "FlashAttention's first kernel: one block a head, and half its vector work, is not in the engine."
_LOW = (
    "Serving engines' attention as it was measured on this GPU, at its least with a causal mask in short sequences, "
    "where few tiles are whole. The paper's own kernels lose less there."
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
        Claim("training of GPT-style models", 225.0, "TFLOP/s", "up-to", "abstract", missing=NEEDS_FEATURE,
              why="No backward pass in the engine."),
        Claim("share of the GPU's peak, training of GPT-style models", 72.0, "%", "up-to", "abstract",
              missing=NEEDS_FEATURE, why="No backward pass in the engine."),
    ),
    assumptions=(
        "One A100 80GB SXM, forward, 16k tokens in sequences of 512 to 16k, a width of 2048 in heads of 64 or 128, "
        "with and without causal mask, whose arithmetic is counted half (section 4.1, as recalled, not re-checked).",
        "The kernels are those of serving engines on this GPU, fitted to measurements made in 2025.",
        "The abstract's range is read as the ends of that sweep.",
    ),
)  # fmt: skip
