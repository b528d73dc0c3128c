"""FlashAttention-2 (arXiv:2307.08691): exact attention in tiles, fewer operations that are no products, blocks over the
sequence as well, and less traffic between the warps of a block."""

from __future__ import annotations

from functools import cache

import numpy as np

import tierwise as tw
from tierwise.cost import Target, efficiency, price
from tierwise.machines import system
from tierwise.models.blocks.attention import Attention
from tierwise.models.step import Step
from tierwise.models.types import Layer, Model, Stack
from tierwise.papers.types import NEEDS_FEATURE, Claim, Paper
from tierwise.program.types import Op

TOKENS, WIDTH = 16384.0, 2048.0
LENGTHS = np.asarray(2.0 ** np.arange(9, 15))


def _core(head: float, causal: bool) -> Op:
    """The attention of ``TOKENS`` tokens at every length."""
    heads = WIDTH / head
    block = Attention(WIDTH, heads, heads, head, causal=causal)
    model = Model("attention", "attention", WIDTH, 0.0, (Stack("decoder", (Layer("attention", (block,)),), (0,)),))
    plan = tw.Scenario(model, "a100-sxm-80gb").resolved().plan
    step = Step(model, plan, TOKENS / LENGTHS, LENGTHS, 0.0, "prefill")
    return next(op for op in block.ops(step) if op.kind == "attention")


@cache
def utilization(head: float, causal: bool) -> tuple[float, ...]:
    """Per cent of the GPU's 16-bit peak at every length, by the kernel that was measured under vLLM."""
    machine = system("1xa100-sxm-80gb")
    on = Target(machine, efficiency(machine.device, "vllm"))
    op = _core(head, causal)
    peak = on.rate("fp16")[0]
    half = LENGTHS**2 * TOKENS / LENGTHS * WIDTH * 4.0 / (2.0 if causal else 1.0)
    return tuple(100.0 * half / np.asarray(price(op, on).time) / float(np.asarray(peak)))


def best() -> float:
    return max(max(utilization(head, causal)) for head in (64.0, 128.0) for causal in (False, True))


_OLD = "FlashAttention's first kernel: one block a head, and half its vector work, is not in the engine."

PAPER = Paper(
    slug="flashattention-2",
    title="FlashAttention-2: Faster Attention with Better Parallelism and Work Partitioning",
    source="arXiv:2307.08691",
    mechanism="Tiles of queries walk the keys with a running softmax; every tile is a block of its own.",
    claims=(
        Claim("share of the GPU's peak, best length and head", 73.0, "%", "up-to", "abstract (50 to 73 %)", best,
              why="By the published kernel as it was measured under vLLM, a few points below the paper's own runs."),
        Claim("FlashAttention over optimised baselines", (2.0, 4.0), "x", "ratio", "abstract (background)",
              missing=NEEDS_FEATURE, why=_OLD),
        Claim("share of the GPU's peak, FlashAttention", (25.0, 40.0), "%", "ratio", "abstract (background)",
              missing=NEEDS_FEATURE, why=_OLD),
        Claim("over FlashAttention", 2.0, "x", "ratio", "abstract", missing=NEEDS_FEATURE, why=_OLD),
        Claim("training of GPT-style models", 225.0, "TFLOP/s", "up-to", "abstract", missing=NEEDS_FEATURE,
              why="No backward pass in the engine; 72 % of the peak is the same claim."),
    ),
    assumptions=(
        "One A100 80GB SXM, forward, 16k tokens in sequences of 512 to 16k, a width of 2048 in heads of 64 or 128, "
        "with and without causal mask, whose arithmetic is counted half (section 4.1, as recalled, not re-checked).",
        "The coefficients are those of FlashAttention-2's kernel on this GPU, fitted to measurements made in 2025.",
    ),
)  # fmt: skip
