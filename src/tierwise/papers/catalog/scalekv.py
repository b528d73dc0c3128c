"""ScaleKV (arXiv:2505.19602): layers of a next-scale image generator differ in how much of the past they look at,
so a few "drafters" keep a large cache and all other layers, the "refiners", a small one."""

from __future__ import annotations

import tierwise as tw
from tierwise.papers.catalog._infinity import drawing
from tierwise.papers.types import Claim, Paper
from tierwise.techniques import budget_kv_layers, evict_kv

# The 10 % budget of Infinity-8B when its last scale runs: 3 drafters and 37 refiners (mean 650 tokens).
SPLIT = [6200.0] * 3 + [200.0] * 37
TABLE = "table 1, batch of 8 images (README of the authors' repository); its MB are 2**20 bytes"


def cache(scenario: tw.Scenario) -> float:
    """Bytes of all keys and values."""
    return float(tw.evaluate(scenario).memory.kv)


def _ratio() -> float:
    full = drawing(40, 28, 8.0)
    return 100.0 * cache(full.apply(budget_kv_layers(SPLIT))) / cache(full)


PAPER = Paper(
    slug="scalekv",
    title="Memory-Efficient Visual Autoregressive Modeling with Scale-Aware KV Cache Compression",
    source="arXiv:2505.19602",
    mechanism="A token budget for the cache of each layer, large for drafters and small for refiners.",
    claims=(
        Claim("KV cache after compression over before, Infinity-8B", 10.0, "%", "memory", "abstract", _ratio,
              identity=True, why="the budgets are inputs"),
        Claim("full KV cache, Infinity-8B", 84328.0, "MiB", "memory", TABLE,
              lambda: cache(drawing(40, 28, 8.0)) / 2**20, extra=True),
        Claim("full KV cache, Infinity-2B", 38550.0, "MiB", "memory", TABLE,
              lambda: cache(drawing(32, 16, 8.0)) / 2**20, extra=True),
        Claim("compressed KV cache, Infinity-8B", 8531.0, "MiB", "memory", TABLE,
              lambda: cache(drawing(40, 28, 8.0).apply(budget_kv_layers(SPLIT))) / 2**20, extra=True),
        Claim("compressed KV cache, Infinity-2B", 3900.0, "MiB", "memory", TABLE,
              lambda: cache(drawing(32, 16, 8.0).apply(evict_kv(budget=650.0))) / 2**20, extra=True),
    ),
    assumptions=(
        "Infinity-2B: 32 layers of 16 heads; 8B: 40 layers of 28 heads; heads of 128, no grouping (run script).",
        "13 scales of 1 to 64 tokens a side; the cache holds the 6425 tokens of all scales but the one running "
        "(schedule in the authors' code; the other reading, all 10521 tokens, misses table 1 by 9 %).",
        "Keys cached in fp32 because they are normalised there, values in bf16 (attention of the authors' code).",
        "Guidance runs every image twice (inference code), so 8 images are 16 sequences.",
        "Budgets at the last scale from the published budget files: 3 × 6200 and 37 × 200 tokens in the 8B model; "
        "for the 2B model their mean, 650.",
    ),
)  # fmt: skip
