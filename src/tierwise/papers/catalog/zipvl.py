"""ZipVL (arXiv:2410.08584): per layer, as many tokens as carry most of the attention are important; prefill attends
among them only, and the cache keeps them in more bits than the rest."""

from __future__ import annotations

import tierwise as tw
from tierwise.papers.base import scenario
from tierwise.papers.types import NEEDS_SETUP, Claim, Paper
from tierwise.techniques import mix_kv_bits

FRAMES, TOKENS = 128.0, 144.0  # LongVA spends 144 tokens on a frame


def attention_flops(tokens: float) -> float:
    """Arithmetic of LongVA-7B's attention over a prompt."""
    prompt = tw.Batch(prompt=tokens, output=1, batch=1)
    phase = tw.evaluate(scenario("longva-7b", "1xa100-sxm-80gb", prompt)).phase("prefill")
    work = phase.total(lambda p: p.op.flops if p.op.kind == "attention" else 0.0)
    return float(work * phase.passes)


def saved(share: float) -> float:
    """Per cent of it saved by attending among a share of the tokens."""
    return 100.0 * (1.0 - attention_flops(share * FRAMES * TOKENS) / attention_flops(FRAMES * TOKENS))


def compression(share: float) -> float:
    """A cache of 16 bits over one whose important tokens have 4 bits and the others 2."""
    base = scenario("llama-3-8b", "1xa100-sxm-80gb", tw.Batch(prompt=1024, output=1, batch=1))
    return float(tw.evaluate(base).memory.kv / tw.evaluate(base.apply(mix_kv_bits(share))).memory.kv)


PAPER = Paper(
    slug="zipvl",
    title="ZipVL: Efficient Large Vision-Language Models with Dynamic Token Sparsification and KV Cache Compression",
    source="arXiv:2410.08584",
    mechanism="Attention among a data-dependent share of the tokens, and a cache of mixed bit-widths.",
    claims=(
        Claim("prefill, LongVA-7B", 2.6, "x", "ratio", "abstract (v1)", missing=NEEDS_SETUP,
              why="The point is the end of a sweep over lengths whose lengths and shares were not found. Without any "
                  "attention LongVA-7B gains at most 1.5x at 32k, 2.1x at 64k and 3.2x at 128k, so the claim belongs "
                  "to the long end."),
        Claim("GPU memory saved, LongVA-7B", 50.0, "%", "memory", "abstract (v1)", missing=NEEDS_SETUP,
              why="Length and what the total counts are not stated. At 128k the cache is 7.5 GB beside 15.2 GB of "
                  "weights, so a smaller cache alone saves less than a third; the rest must be activations."),
        Claim("attention arithmetic saved, LongVA-7B on 128 frames", 82.3, "%", "count", "table 2 (v1)",
              lambda: saved(0.421), extra=True, identity=True,
              why="the square of the share that is kept, an input"),
        Claim("cache of Llama-3-8B compressed, 28.6 % of the tokens important", 6.18, "x", "memory",
              "ablation of the cache (v1)", lambda: compression(0.286), extra=True, identity=True),
        Claim("cache of Llama-3-8B compressed, 70 % of the tokens important", 4.69, "x", "memory",
              "ablation of the cache (v1)", lambda: compression(0.70), extra=True, identity=True),
    ),
    assumptions=(
        "42.1 % of the tokens are important on 128 frames (ablation of sparse attention, v1).",
        "4 bits for important tokens and 2 for others: from the paper, and as in the fixed-ratio method it compares "
        "with, as recalled; not re-checked. Scales are left out; they are the rest of the difference.",
    ),
)  # fmt: skip
