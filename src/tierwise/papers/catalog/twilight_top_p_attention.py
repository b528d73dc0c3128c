"""Twilight (arXiv:2502.02770): a sparse attention first picks a generous set of tokens, a scan of their keys in 4 bits
then keeps only those that carry a fraction p of the probability, so each query has a budget of its own."""

from __future__ import annotations

from collections.abc import Callable

import tierwise as tw
from tierwise.core.num import Num
from tierwise.papers.base import scenario
from tierwise.papers.types import NEEDS_SETUP, Claim, Paper
from tierwise.result import Phase, PricedOp
from tierwise.techniques import sparse_attention

CANDIDATES, KEPT = 8192.0, 131.0
# Quest keeps the minimum and maximum of each channel over pages of 16 tokens: 2 bits per stored key element.
PAGES = 2.0 * 16.0 / 16.0


def _decode(context: float, batch: float, *techniques: Callable[[tw.Scenario], tw.Scenario]) -> Phase:
    base = scenario("llama-3-8b", "1xa100-sxm-80gb", tw.Batch(prompt=context, output=2, batch=batch))
    return tw.evaluate(base.apply(*techniques)).phase("decode")


def core(phase: Phase) -> tuple[float, float]:
    """(cache bytes read, seconds) of attention in one decode step."""

    def read(p: PricedOp) -> Num:
        return sum((o.bytes for o in p.op.reads if o.role == "kv"), 0.0) if p.op.kind == "attention" else 0.0

    time = phase.total(lambda p: p.cost.time if p.op.kind == "attention" else 0.0)
    return float(phase.total(read)), float(time)


def _pruned() -> float:
    full = core(_decode(CANDIDATES, 1.0))[0]
    return 100.0 * (1.0 - core(_decode(CANDIDATES, 1.0, sparse_attention(budget=KEPT)))[0] / full)


def _attention() -> float:
    context = 30_000.0
    bits = PAGES + 4.0 * CANDIDATES / context
    dense = core(_decode(context, 64.0))[1]
    return dense / core(_decode(context, 64.0, sparse_attention(budget=KEPT, selector_bits=bits)))[1]


PAPER = Paper(
    slug="twilight-top-p-attention",
    title="Twilight: Adaptive Attention Sparsity with Hierarchical Top-p Pruning",
    source="arXiv:2502.02770",
    mechanism="Candidates from page metadata, a scan of their 4-bit keys, attention over the few tokens left.",
    claims=(
        Claim("candidates pruned", 98.0, "%", "up-to", "abstract", _pruned, identity=True, metric="count",
              why="The mean budget is measured by the authors; what follows is the share of the cache not read."),
        Claim("self-attention against FlashAttention-2, 64 requests of 30k tokens", 15.4, "x", "ratio",
              "abstract (v1); kernel figure", _attention,
              why="Bytes read give this much over a dense kernel at the memory's roofline. The published baseline is "
                  "not there: in the same figure FlashInfer's dense kernel is 3.5x faster than FlashAttention-2, and "
                  "Twilight 4.5x faster than FlashInfer. Missing: kernels that do not pack a group's query heads."),
        Claim("time per token, end to end", 3.9, "x", "ratio", "abstract", missing=NEEDS_SETUP,
              why="Over FlashInfer, batches of 32 to 256 and prompts of 10k to 30k tokens of LongBench; which pair, "
                  "which model and the budget kept there are not known (256 requests of 30k of an 8B model are 1 TB "
                  "of cache, more than the GPU)."),
    ),
    assumptions=(
        "131 of 8192 candidates are kept on average (README table, Quest-Twilight, LongBench).",
        "Quest's pages of 16 tokens; 4-bit keys of the candidates are scanned (paper, design; slides).",
        "Eight KV heads of 128, as in Llama-3-8B: with one per query head the figure's fastest dense kernel would need "
        "twice the memory bandwidth. A100 80GB from the paper, as recalled; not re-checked; the ratio hardly depends "
        "on it.",
    ),
)  # fmt: skip
