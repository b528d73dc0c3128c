"""NanoFlow (arXiv:2408.12757): requests are split into nano-batches so that products, attention over the cache and
collectives of different parts run at the same time on one device."""

from __future__ import annotations

from functools import cache

from tierwise import Batch, Plan, Result, Scenario, evaluate, techniques
from tierwise.papers.base import KERNELS, scenario
from tierwise.papers.types import NEEDS_FEATURE, Claim, Paper

TOKENS = 2048.0  # of one iteration
# Mean tokens of prompt and answer: Splitwise's conversations, LMSYS-Chat-1M, ShareGPT.
TRACES = ((1155.0, 211.0), (102.0, 222.0), (246.0, 322.0))
CONSTANT = (1024.0, 512.0)
OPTIMAL = 1857.0  # tokens per second and GPU that the authors' best product gives for 70B parameters
DEVICES = 8.0


def in_order(lengths: tuple[float, float], engine: str = KERNELS) -> Scenario:
    """Llama-2-70B with as many requests as fit, each op after the one before."""
    prompt, answer = lengths
    traffic, plan = Batch(prompt=prompt, output=answer, batch="max"), Plan(tp=DEVICES, chunk=TOKENS)
    return scenario("llama-2-70b", "8xa100-sxm-80gb", traffic, plan, engine=engine)


@cache
def ran(lengths: tuple[float, float], engine: str = KERNELS, beside: bool = False) -> Result:
    s = in_order(lengths, engine)
    return evaluate(s.apply(techniques.schedule("two_batches")) if beside else s)


def rate(r: Result, lengths: tuple[float, float]) -> float:
    """Tokens of prompts and answers per second and GPU."""
    return float(r.batch * sum(lengths) / r.time) / DEVICES


def nanoflow(lengths: tuple[float, float]) -> float:
    return rate(ran(lengths, beside=True), lengths)


def over_trtllm() -> float:
    """Mean gain over TensorRT-LLM in the lengths of the three traces."""
    return sum(nanoflow(t) / rate(ran(t, "trtllm"), t) for t in TRACES) / len(TRACES)


def over_order() -> float:
    """Percent more tokens a second than the same ops one after the other."""
    return 100.0 * (nanoflow(CONSTANT) / rate(ran(CONSTANT), CONSTANT) - 1.0)


def best_product() -> float:
    """Tokens per second and GPU of the products of an iteration of prompts alone."""
    products = ran(CONSTANT).phase("prefill").total(lambda p: p.cost.time if p.op.kind == "matmul" else 0.0)
    return TOKENS / float(products) / DEVICES


PAPER = Paper(
    slug="nanoflow",
    title="NanoFlow: Towards Optimal Large Language Model Serving Throughput",
    source="arXiv:2408.12757",
    mechanism="Ops bound by compute, memory and network run at once on one device, on different nano-batches.",
    claims=(
        Claim("tokens per second over TensorRT-LLM, mean of three traces", 1.91, "x", "ratio", "abstract", over_trtllm,
              why="TensorRT-LLM as measured of today's versions, whose kernels are faster than the typical ones that "
                  "NanoFlow is priced with: 1243 tokens a second and GPU at 1024 + 512 tokens against 979 one after "
                  "the other, 1160 beside. Version 0.8's host between steps and limits on a batch are not on file."),
        Claim("share of the optimum, Llama-2-70B, 1024 + 512 tokens", (59.0, 72.0), "%", "ratio", "abstract",
              lambda: 100.0 * nanoflow(CONSTANT) / OPTIMAL),
        Claim("share of the optimum, other models", (59.0, 72.0), "%", "ratio", "abstract", missing=NEEDS_FEATURE,
              why="their optimum is the measured rate of their own products; none is published for them"),
        Claim("over the same ops one after the other", (7.0, 17.0), "%", "ratio", "section 6", over_order, extra=True),
        Claim("optimum: tokens per second and GPU of the products alone", OPTIMAL, "tokens/s", "absolute", "section 3",
              best_product, extra=True),
    ),
    assumptions=(
        "Llama-2-70B on 8 A100 80GB SXM, tensor parallel, 2048 tokens in an iteration (section 6); tokens of prompts "
        "and of answers count alike",
        "mean lengths of the traces: 1155 + 211, 102 + 222 and 246 + 322 tokens (section 6, as recalled)",
        "two nano-batches of each operation (section 4); as many requests at once as fit in memory",
        "iterations of prompts and iterations that decode follow each other, on both sides: NanoFlow mixes them",
    ),
)  # fmt: skip
