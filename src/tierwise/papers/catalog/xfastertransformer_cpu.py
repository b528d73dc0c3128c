"""xFasterTransformer (arXiv:2407.07304): language models on server CPUs, sharded over sockets and nodes by a collective
library, with an 8-bit cache."""

from __future__ import annotations

from functools import cache

import tierwise as tw
from tierwise.papers.base import contrast, scenario
from tierwise.papers.types import Claim, Paper


@cache
def step(sockets: int) -> float:
    """Milliseconds of a decode step of Llama-2-70B in bf16, a request of 1024 tokens over so many sockets."""
    base = scenario("llama-2-70b", f"{sockets}xxeon-8592", tw.Batch(prompt=1024, output=32, batch=1))
    return 1e3 * float(tw.evaluate(base.with_plan(tp=float(sockets), pp=1.0, dp=1.0)).tpot)


TABLE = "table of distributed latency, as recalled"

PAPER = Paper(
    slug="xfastertransformer-cpu",
    title="Inference Performance Optimization for Large Language Models on CPUs",
    source="arXiv:2407.07304",
    mechanism="Tensor parallelism over sockets: each reads its share of the weights, two all-reduces a layer.",
    claims=(
        Claim("next token of Llama-2-70B, 2 sockets", 249.7, "ms", "absolute", TABLE, lambda: step(2), extra=True),
        Claim("next token of Llama-2-70B, 8 sockets", 87.7, "ms", "absolute", TABLE, lambda: step(8), extra=True),
        Claim("8 sockets over 2", 2.85, "x", "ratio", "summary of the results (sciencestack.ai/paper/2407.07304)",
              lambda: step(2) / step(contrast(2, 8)), extra=True),
    ),
    assumptions=(
        "The abstract has no number. Xeon 8563C, two sockets a node; the catalog's Xeon 8592+ stands for it, of the "
        "same generation and memory (eight channels of DDR5-5600).",
        "bf16, one request, 1024 tokens (as recalled, not re-checked: the step hardly depends on them); 100 Gb/s a "
        "socket between nodes is the catalog's, the paper's network is not known.",
    ),
)  # fmt: skip
