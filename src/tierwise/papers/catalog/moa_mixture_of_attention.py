"""MoA (arXiv:2406.14909): each head looks back a span of its own that grows with the input, found by profiling; the
cache, its traffic and attention's arithmetic shrink to the mean density."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import tierwise as tw
from tierwise.papers.base import KERNELS, contrast, scenario
from tierwise.papers.types import NEEDS_FEATURE, NEEDS_SETUP, Claim, Paper
from tierwise.techniques import concatenate_cache, eager, sparsify_attention

Technique = Callable[[tw.Scenario], tw.Scenario]


@dataclass(frozen=True)
class Row:
    """A column of the throughput table: batches of vLLM, of the baseline, of MoA; mean density of its plan."""

    model: str
    length: float
    vllm: float
    eager: float
    moa: float
    density: float


ROWS = (
    Row("vicuna-7b", 4096, 30, 30, 50, 0.484),
    Row("vicuna-7b", 8192, 15, 15, 25, 0.492),
    Row("vicuna-7b", 16384, 8, 8, 12, 0.496),
    Row("vicuna-13b", 4096, 16, 16, 28, 0.484),
    Row("vicuna-13b", 8192, 8, 8, 14, 0.484),
    Row("vicuna-13b", 16384, 4, 4, 7, 0.484),
)


def _rate(
    row: Row, batch: float, *under: Technique, density: float | None = None, engine: str = KERNELS
) -> float:
    traffic = tw.Batch(prompt=row.length, output=2, batch=batch)
    base = scenario(row.model, "1xa100-sxm-80gb", traffic, engine=engine, under=under)
    sparse = base if density is None else base.apply(sparsify_attention(density))
    return float(tw.evaluate(sparse).decode_throughput)


def _moa(row: Row) -> float:
    return _rate(row, row.moa, eager("transformers"), density=row.density)


def over_eager(row: Row) -> float:
    """MoA over the framework's own generation with FlashAttention-2."""
    theirs = _rate(row, row.eager, concatenate_cache(), eager("transformers"))
    return contrast(theirs, _moa(row)) / theirs


def over_vllm(row: Row) -> float:
    """MoA over vLLM."""
    theirs = _rate(row, row.vllm, engine="vllm")
    return contrast(theirs, _moa(row)) / theirs


TABLE = "throughput table, COLM version: A100 80GB, half density, largest batch"

PAPER = Paper(
    slug="moa-mixture-of-attention",
    title="MoA: Mixture of Sparse Attention for Automatic Large Language Model Compression",
    source="arXiv:2406.14909",
    mechanism="A static span per head; half the causal pairs are computed, stored and read.",
    claims=(
        Claim("effective context at the same mean span", 3.9, "x", "ratio", "abstract", missing=NEEDS_FEATURE,
              metric="quality", why="A retrieval accuracy, not a cost."),
        Claim("memory against the dense model", (1.2, 1.4), "x", "memory", "abstract", missing=NEEDS_SETUP,
              why="The batches compared are not stated: at equal batch the table's cases give 1.5 to 1.7, at each "
                  "system's own largest batch 1.1 to 1.3."),
        Claim("decode throughput over the dense model, lowest of the table", 5.5, "x", "ratio",
              f"abstract (v1); {TABLE}", lambda: min(map(over_eager, ROWS)), blind=True,
              why="The baseline writes its whole cache anew each step, 16-bit elements at half the bus's rate; reading "
                  "and batching alone give 2x."),
        Claim("decode throughput over the dense model, highest of the table", 6.7, "x", "ratio",
              f"abstract (v1); {TABLE}", lambda: max(map(over_eager, ROWS)), blind=True,
              why="As above."),
        Claim("decode throughput over vLLM, lowest", 1.7, "x", "ratio", "abstract (v3)",
              lambda: min(map(over_vllm, ROWS)), extra=True, blind=True,
              why="bytes on both sides"),
        Claim("decode throughput over vLLM, highest", 1.9, "x", "ratio", "abstract (v3)",
              lambda: max(map(over_vllm, ROWS)), extra=True, blind=True,
              why="bytes on both sides"),
    ),
    assumptions=(
        "Batches of the throughput table (for the abstract's 5.5 to 6.7 the row before MoA's last kernel, whose six "
        "ratios to the baseline are those numbers); fp16 (efficiency script).",
        "Mean density of the published span plans, 0.484 to 0.496.",
        "The baseline concatenates its cache: a static cache is the table's first improvement on it.",
        "Decode rates at the table's context length.",
    ),
)  # fmt: skip
