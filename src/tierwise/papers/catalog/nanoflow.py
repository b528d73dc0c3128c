"""NanoFlow (arXiv:2408.12757): requests are split into nano-batches so that products, attention over the cache and
collectives of different parts run at the same time on one device; only what computes stays on the critical path."""

from __future__ import annotations

from functools import cache

import numpy as np

import tierwise as tw
from tierwise.cost import Target, efficiency, price
from tierwise.models.lower import lower
from tierwise.models.step import Step
from tierwise.papers.types import NEEDS_FEATURE, Claim, Paper

BATCH = 2048.0  # tokens of one iteration
NANO = 2  # nano-batches that an operation is split into at least
# Mean tokens of prompt and answer: Splitwise's conversations, LMSYS-Chat-1M, ShareGPT.
TRACES = ((1155.0, 211.0), (102.0, 222.0), (246.0, 322.0))
OPTIMAL = 1857.0  # tokens per second and GPU that the authors' best product gives for 70B parameters


@cache
def parts(prompt: float, answer: float, tokens: float = BATCH, engine: str = "") -> dict[str, float]:
    """Seconds of an iteration's kinds of ops, Llama-2-70B on 8 A100: whole requests stream through, so answers' share
    of the tokens decodes, at mean context, and the rest are prompts."""
    r = tw.Scenario("llama-2-70b", "8xa100-sxm-80gb", tw.Batch(1, 1, 1), tw.Plan(tp=8.0)).resolved()
    target = Target(r.machine, efficiency(r.machine.device, engine))
    decoding = tokens * answer / (prompt + answer)
    out: dict[str, float] = {}
    steps = {
        "all": Step(r.model, r.plan, tokens, 1.0, 1.0, "decode"),
        "decode": Step(r.model, r.plan, decoding, 1.0, prompt + answer / 2.0, "decode"),
        "prefill": Step(r.model, r.plan, (tokens - decoding) / prompt, prompt, 0.0, "prefill"),
    }
    for name, step in steps.items():
        for segment, op in lower(step).walk():
            if (op.kind == "attention") != (name == "all"):
                kind = name if op.kind == "attention" else op.kind
                out[kind] = out.get(kind, 0.0) + float(np.max(segment.repeat * price(op, target).time))
    return out


def one_by_one(prompt: float, answer: float, engine: str = "") -> float:
    """Tokens per second and GPU when each op waits for the one before."""
    return BATCH / sum(parts(prompt, answer, engine=engine).values()) / 8.0


def beside(prompt: float, answer: float) -> float:
    """Tokens per second and GPU when attention over the cache and collectives hide behind what computes, which comes in
    nano-batches: weights are read for each."""
    nano = parts(prompt, answer, BATCH / NANO)
    hidden = {k: nano[k] for k in ("decode", "collective")}
    compute = sum(v for k, v in nano.items() if k not in hidden)
    return BATCH / (NANO * max(compute, sum(hidden.values()))) / 8.0


def best_product() -> float:
    """Tokens per second and GPU of the model's products alone, at the rate of a large one."""
    return BATCH / parts(512.0, 512.0)["matmul"] / 8.0


def over(engine: str) -> float:
    """Mean gain over an engine, in the lengths of the three traces."""
    return sum(beside(*t) / one_by_one(*t, engine) for t in TRACES) / len(TRACES)


PAPER = Paper(
    slug="nanoflow",
    title="NanoFlow: Towards Optimal Large Language Model Serving Throughput",
    source="arXiv:2408.12757",
    mechanism="Ops bound by compute, memory and network run at once on one device, on different nano-batches.",
    claims=(
        Claim("tokens per second over TensorRT-LLM, mean of three traces", 1.91, "x", "ratio", "abstract",
              lambda: over("trtllm"),
              why="the same ops one after the other with TensorRT-LLM's kernels; missing is what else held version 0.8 "
                  "back (host time between steps, batches smaller than 2048 tokens). The authors' own ops one by one "
                  "lose 1.07 to 1.17x to overlapping (section 6), 1.26x here"),
        Claim("share of the optimum, Llama-2-70B, 1024 + 512 tokens", (59.0, 72.0), "%", "ratio", "abstract",
              lambda: 100.0 * beside(1024.0, 512.0) / OPTIMAL,
              why="without what ops that share a device take from each other, so an upper bound"),
        Claim("share of the optimum, other models", (59.0, 72.0), "%", "ratio", "abstract", missing=NEEDS_FEATURE,
              why="their optimum is the measured rate of their own products; none is published for them"),
        Claim("optimum: tokens per second and GPU of the products alone", OPTIMAL, "tokens/s", "absolute", "section 3",
              best_product, extra=True),
    ),
    assumptions=(
        "Llama-2-70B on 8 A100 80GB SXM, tensor parallel, 2048 tokens in an iteration (section 6)",
        "mean lengths of the traces: 1155 + 211, 102 + 222 and 246 + 322 tokens (section 6, as recalled); requests "
        "stream through, so an iteration holds decoding and prompts in that proportion",
        "two nano-batches of each operation (section 4), attention over the cache and collectives hidden by the rest",
    ),
)  # fmt: skip
