"""Infinite-LLM (arXiv:2401.02669): attention over a part of a request's keys and values is computed where they lie, so
that the memory of all instances is one pool and no request has to fit into one of them."""

from __future__ import annotations

from functools import cache

import tierwise as tw
from tierwise.papers.base import contrast, scenario
from tierwise.papers.serving import served
from tierwise.papers.types import NEEDS_SETUP, Claim, Paper

CLUSTER = 32  # instances of one A100 each


@cache
def capacity(instances: float, model: str = "llama-2-7b") -> float:
    """Tokens whose keys and values the pooled memory of instances of one GPU holds, weights in each of them."""
    devices = scenario(model, f"{int(instances)}xa100-sxm-80gb", tw.Batch(1, 1, 1), tw.Plan(dp=instances))
    return served(devices, max_len=4096).context_room


def longer(instances: float) -> float:
    """Longest context over that of a single instance."""
    return capacity(contrast(1.0, instances)) / capacity(1.0)


def devices_for(context: float, model: str = "llama-2-7b") -> float:
    """Least devices of one tensor-parallel instance that hold such a context, in powers of two."""
    tp = 1.0
    while True:
        one = scenario(model, f"{int(tp)}xa100-sxm-80gb", tw.Batch(1, 1, 1), tw.Plan(tp=tp))
        if served(one, max_len=4096).context_room >= context:
            return tp
        tp *= 2.0


PAPER = Paper(
    slug="infinite-llm",
    title="Infinite-LLM: Efficient LLM Service for Long Context with DistAttention and Distributed KVCache",
    source="arXiv:2401.02669",
    mechanism="Keys and values of one request may lie in any instance; attention is computed there and merged.",
    claims=(
        Claim("context length, two instances over one", 2.0, "x", "ratio", "abstract (2 to 19 times)",
              lambda: longer(2.0), metric="capacity", identity=True,
              why="two pools over one"),
        Claim("context length, 32 instances over one", 19.0, "x", "ratio", "abstract (2 to 19 times)",
              lambda: longer(float(CLUSTER)), metric="capacity",
              why="32 pools hold 32 times as much as one; the published number ends at the longest context of the "
                  "authors' traces, 1.9 million tokens"),
        Claim("context that 32 A100 hold", 1900.0, "K tokens", "at-least", "abstract",
              lambda: capacity(float(CLUSTER)) / 1e3, metric="capacity"),
        Claim("throughput over instances that share nothing", (1.03, 2.4), "x", "ratio", "abstract",
              missing=NEEDS_SETUP, why="the spread of context lengths within 1-60K and 1-2000K tokens decides it, and "
                                       "the text gives only the ranges; neither are rates and instances of each model"),
        Claim("GPUs of one instance for a million tokens of Llama-2-7B", 8.0, "GPUs", "count", "section 2, as recalled",
              lambda: devices_for(1e6), extra=True, metric="capacity"),
    ),
    assumptions=(
        "Llama-2-7B, an instance on each A100 of 80 GB (32 of them in four nodes, section 7), nine tenths of its "
        "memory for weights, activations and cache",
        "every instance keeps all weights; the pool is the sum of what they leave",
        "2 to 19 times and 2 to 32 instances are the two ends of one sweep",
    ),
)  # fmt: skip
