"""HACK (arXiv:2504.09261): heads of next-scale image generators are structural or contextual, each kind with its own
cache budget and its own rule of what to evict, so that no query sees more than a fixed number of keys on average."""

from __future__ import annotations

import numpy as np

import tierwise as tw
from tierwise.models.types import Model
from tierwise.papers.base import scenario
from tierwise.papers.catalog._infinity import SIDES, infinity
from tierwise.papers.fit import exponent
from tierwise.papers.types import NEEDS_FEATURE, NEEDS_SETUP, Claim, Paper
from tierwise.techniques import share_prefix, slide_window

# Any budget far below the last scale's tokens gives the same exponent.
BUDGET = 512.0
MODEL = infinity(40, 28)
MAPS = np.array([1024.0, 2048.0, 4096.0])  # sides of the last token map


def attention_flops(model: Model, side: float) -> float:
    """Arithmetic of attention over one image whose last token map has ``side`` tokens a side: each map is read after
    those before it, which are cached."""
    total, past = 0.0, 0.0
    for s in SIDES:
        new = (s * side / SIDES[-1]) ** 2
        traffic = tw.Batch(prompt=past + new, output=1, batch=1)
        one = scenario(model, "1xh200-sxm", traffic, under=[share_prefix(past)] if past else [])
        phase = tw.evaluate(one.with_plan(chunk=float("inf"))).phase("prefill")
        total += float(phase.total(lambda p: p.op.flops if p.op.kind == "attention" else 0.0))
        past += new
    return total


def growth(model: Model) -> float:
    """Exponent of attention's arithmetic over the side of the image, in tokens."""
    return exponent(MAPS, np.array([attention_flops(model, s) for s in MAPS]))


def _capped() -> float:
    capped = scenario(MODEL, "1xh200-sxm").apply(slide_window(BUDGET))
    return growth(capped.resolved().model)


PAPER = Paper(
    slug="hack-var-kv",
    title="Head-Aware KV Cache Compression for Efficient Visual Autoregressive Modeling",
    source="arXiv:2504.09261",
    mechanism="A fixed average number of keys per query, dealt unequally to two kinds of heads.",
    claims=(
        Claim("KV cache removed, VAR-d30", 50.0, "%", "memory", "abstract (v1)", missing=NEEDS_FEATURE,
              metric="quality",
              why="How much can go before images suffer is measured; the fraction itself is the method's setting."),
        Claim("KV cache removed, Infinity-8B", 70.0, "%", "memory", "abstract (v1)", missing=NEEDS_FEATURE,
              metric="quality", why="As for VAR-d30: a setting chosen by image quality."),
        Claim("memory saved at 70 % compression, VAR-d30", 44.2, "%", "memory", "abstract (v1)", missing=NEEDS_SETUP,
              why="Batch size and what the total counts are not stated; the cache is 0.47 GB an image beside two "
                  "billion weights, so the share depends on the batch alone."),
        Claim("memory saved at 90 % compression, Infinity-8B", 58.9, "%", "memory", "abstract (v1)",
              missing=NEEDS_SETUP,
              why="Batch size not stated: weights and cache alone save 33 % at 1 image and 74 % at 8. The later "
                  "version's totals (60.4 to 34.4 GB at 70 %) hold the caches of 3.4 images by this count: none "
                  "that one could choose."),
        Claim("attention arithmetic over the side of the image, full cache", 4.0, "exponent", "exponent",
              "abstract (v2): O(n^4)", lambda: growth(MODEL)),
        Claim("attention arithmetic over the side of the image, HACK", 2.0, "exponent", "exponent",
              "abstract (v2): O(B n^2)", _capped),
    ),
    assumptions=(
        "n is the side of the last token map; all scales grow with it as in Infinity's schedule.",
        "The budget bounds the keys a query sees, those of its own scale included: with only the past bounded, the "
        "last scale's attention to itself alone would keep the fourth power.",
    ),
)  # fmt: skip
