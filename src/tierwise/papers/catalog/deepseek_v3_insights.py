"""DeepSeek-V3 insights (arXiv:2505.09343): what latent attention, experts and a slower interconnect mean for cost, in
counts: cache a token, training arithmetic a token, and how fast expert parallelism over a network can write tokens."""

from __future__ import annotations

from functools import cache

import tierwise as tw
from tierwise.papers.base import scenario
from tierwise.papers.types import Claim, Paper
from tierwise.result import Result

LENGTH = 4096.0
TABLE = {"deepseek-v2": 155.0, "deepseek-v3": 250.0, "qwen2.5-72b": 394.0, "llama-3.1-405b": 2448.0}
CACHE = {"deepseek-v3": 70.272, "qwen2.5-72b": 327.680, "llama-3.1-405b": 516.096}


@cache
def one(model: str) -> Result:
    """One sequence of 4096 tokens on one device, whether it fits or not."""
    plan = tw.Plan(chunk=float("inf"))
    return tw.evaluate(scenario(model, "1xh800-sxm", tw.Batch(prompt=LENGTH, output=2, batch=1), plan))


def cached(model: str) -> float:
    """Kilobytes a token, 16-bit."""
    r = one(model)
    return float(r.memory.per_sequence) / (LENGTH + 1.0) / 1e3


def training(model: str) -> float:
    """GFLOP a token: forward, and twice that backward."""
    products = ("matmul", "attention", "moe")
    work = one(model).phase("prefill").total(lambda p: p.op.flops if p.op.kind in products else 0.0)
    return 3.0 * float(work) / LENGTH / 1e9


_WHY = {
    "qwen2.5-72b": "The published number is six times 65.7 billion; the model has 70 billion beside its embeddings."
}


def _cached(model: str, published: float) -> Claim:
    return Claim(f"cache a token, {model}", published, "kB", "count", "table 1", lambda: cached(model), extra=True)


def _trained(model: str, published: float) -> Claim:
    return Claim(f"training arithmetic a token, {model}", published, "GFLOP", "count", "table 2",
                 lambda: training(model), extra=True, why=_WHY.get(model, ""))  # fmt: skip


PAPER = Paper(
    slug="deepseek-v3-insights",
    title="Insights into DeepSeek-V3: Scaling Challenges and Reflections on Hardware for AI Architectures",
    source="arXiv:2505.09343",
    mechanism="A latent shared by all heads is cached in their place; a few of many experts run.",
    claims=(
        *(_cached(model, published) for model, published in CACHE.items()),
        *(_trained(model, published) for model, published in TABLE.items()),
    ),
    assumptions=(
        "The abstract's one number, 2,048 H800 GPUs, is an input, not a result.",
        "16-bit cache (table 1); sequences of 4096 tokens, backward twice the forward, attention causal (table 2).",
        "Tables as recalled; 70 kB and 516 kB a token, 250 and 2,448 GFLOP a token are also in public summaries.",
    ),
)  # fmt: skip
