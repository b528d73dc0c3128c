"""vLLM (arXiv:2309.06180): keys and values in blocks that need not lie together, taken as a request grows.

What a request reserves decides how many run at once, and that, how often weights are read for each token.
"""

from __future__ import annotations

from functools import cache

import numpy as np

import tierwise as tw
from tierwise.papers.base import contrast, scenario
from tierwise.papers.serving import Served, full_batch, full_rate, served
from tierwise.papers.types import Claim, Paper
from tierwise.serving.outcome import SimulatedRun
from tierwise.serving.traffic.synthetic import synthetic

# Model, machine and the memory table 1 gives to keys and values.
MODELS = {"opt-13b": ("1xa100-sxm-40gb", 12e9), "opt-66b": ("4xa100-sxm-40gb", 21e9),
          "opt-175b": ("8xa100-sxm-80gb", 264e9)}  # fmt: skip
# Mean tokens of prompt and answer (figure 11).
LENGTHS = {"sharegpt": (161.31, 337.99), "alpaca": (19.31, 58.45)}
ORCA = {"max": "reserve_max", "pow2": "reserve_pow2", "oracle": "reserve_exact"}
LONGEST = 2048


@cache
def server(model: str) -> Served:
    machine, room = MODELS[model]
    base = scenario(model, machine, tw.Batch(1, 1, 1), tw.Plan(tp=float(machine[0])))
    return served(base, max_len=LONGEST, budget=2560, prefix_cache=False, graphs=0).with_room(size=room)


@cache
def run(kv: str, model: str = "opt-13b", data: str = "sharegpt", cv: float = 1.0, requests: int = 1000) -> SimulatedRun:
    """A server with more requests waiting than it can take, and a KV manager."""
    prompt, answer = LENGTHS[data]
    # vLLM computes prompts in steps of their own, Orca beside sequences that decode, with a kernel for each of them.
    # One token is the block of those that reserve contiguous room; vLLM's is 16 (section 7.2).
    scheduler, block = ("prefill_first", 16) if kv == "paged" else ("orca", 1)
    system = server(model).but(scheduler=scheduler, kv=kv, block=block)
    high = LONGEST // 2
    return system.play(synthetic(
        requests, concurrency=requests // 2, prompt=f"lognormal:mean={prompt},cv={cv},high={high}",
        output=f"lognormal:mean={answer},cv={cv},high={high}",
    ))  # fmt: skip


def gain(orca: str, model: str = "opt-13b", data: str = "sharegpt", cv: float = 1.0) -> float:
    """Requests per second, vLLM over Orca with one of its ways to reserve."""
    theirs = ORCA[orca]
    return full_rate(run(contrast(theirs, "paged"), model, data, cv)) / full_rate(run(theirs, model, data, cv))


def sequences_at_once(kv: str) -> float:
    """Requests that run at once, OPT-13B on ShareGPT."""
    return full_batch(run(kv))


def more_together(kv: str) -> float:
    """Requests that run at once, vLLM over Orca."""
    return sequences_at_once(contrast(kv, "paged")) / sequences_at_once(kv)


def middle() -> float:
    """Geometric mean of the gain over the three models and the three ways Orca may reserve, on ShareGPT."""
    return float(np.exp(np.mean([np.log(gain(orca, model)) for orca in ORCA for model in MODELS])))


_LARGE = (
    "Here 53 requests against 129 run at once; a step of the larger batch takes 1.7 times as long: attention reads 2.5 "
    "times as much, and products take half as long again behind 128 rows, as measured products on this GPU do. At 96 "
    "requests a step yields as many tokens a second. What software of 2023 puts between steps, which would count for "
    "more in the smaller batch, is not known."
)

_ROOM = "the ratio of the rooms decides it; what a step takes cancels, and the range is wide"

PAPER = Paper(
    slug="vllm-pagedattention",
    title="Efficient Memory Management for Large Language Model Serving with PagedAttention",
    source="arXiv:2309.06180",
    mechanism="KV cache in small blocks taken on demand: nothing is reserved for tokens that do not come.",
    claims=(
        Claim("requests per second over Orca, mean of three models and three ways to reserve", (2.0, 4.0), "x", "ratio",
              "abstract", middle, blind=True,
              why="The room of both decides it more than their steps, and the range is wide. FasterTransformer, at up "
                  "to 22x, is left out: it batches whole requests."),
        Claim("OPT-13B on ShareGPT, over Orca that knows lengths", (1.7, 2.7), "x", "ratio", "section 6.2",
              lambda: gain("oracle"), extra=True, blind=True, why=_ROOM),
        Claim("OPT-13B on ShareGPT, over Orca that reserves the most", (2.7, 8.0), "x", "ratio", "section 6.2",
              lambda: gain("max"), extra=True, blind=True, why=_ROOM),
        Claim("OPT-66B on ShareGPT, over Orca that knows lengths", (1.7, 2.7), "x", "ratio", "section 6.2",
              lambda: gain("oracle", "opt-66b"), extra=True, blind=True, why=_ROOM),
        Claim("OPT-66B on ShareGPT, over Orca that reserves the most", (2.7, 8.0), "x", "ratio", "section 6.2",
              lambda: gain("max", "opt-66b"), extra=True, blind=True, why=_ROOM),
        Claim("OPT-175B on ShareGPT, over Orca that knows lengths", (1.7, 2.7), "x", "ratio", "section 6.2",
              lambda: gain("oracle", "opt-175b"), extra=True, blind=True, why=_LARGE),
        Claim("OPT-175B on ShareGPT, over Orca that reserves the most", (2.7, 8.0), "x", "ratio", "section 6.2",
              lambda: gain("max", "opt-175b"), extra=True, blind=True, why=_LARGE),
        Claim("requests at once, vLLM over Orca that knows lengths", 2.2, "x", "ratio", "section 6.2, figure 13a",
              lambda: more_together("reserve_exact"), extra=True, metric="capacity"),
        Claim("requests at once, vLLM over Orca that reserves the most", 4.3, "x", "ratio", "section 6.2, figure 13a",
              lambda: more_together("reserve_max"), extra=True, metric="capacity"),
    ),
    assumptions=(
        "OPT-13B, 66B and 175B on 1, 4 and 8 A100, the last of 80 GB, with 12, 21 and 264 GB for keys and values "
        "(table 1, as recalled)",
        "mean lengths of figure 11 (as recalled); their spread is not stated: log-normal with a deviation equal to "
        "the mean, each of prompt and answer at most 1024 tokens (0.6 or 1.5 times that moves gains by at most 10 %)",
        "Orca's room comes from a buddy allocator, so it is a power of two of tokens (section 6.1)",
        "the rate a latency allows is taken as the rate of a server that always has work: curves of latency rise "
        "steeply just below it (figure 12)",
        "vLLM computes prompts in steps of their own, Orca beside sequences that decode; blocks of 16 tokens",
        "kernels are launched one by one: vLLM had no recorded graphs yet (scaleapi/llm-engine, issue 265, September "
        "2023)",
        "figure 13a counts at two requests a second; here the queue is never empty",
    ),
)  # fmt: skip
