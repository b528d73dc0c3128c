"""RelayAttention: a system prompt that all requests share is read from memory once per batch.

Queries of all requests meet the shared keys and values in one product; partial results are combined exactly.
"""

from functools import cache

from tierwise import Batch, evaluate, techniques
from tierwise.core.num import Num
from tierwise.models.blocks.attention import Attention
from tierwise.models.types import Layer, Model, Stack
from tierwise.papers.base import contrast, scenario
from tierwise.papers.serving import full_rate, served
from tierwise.papers.types import Claim, Paper
from tierwise.serving.outcome import SimulatedRun
from tierwise.serving.traffic.synthetic import synthetic

# The standalone benchmark: Llama-30B's attention, 16 requests with 128 tokens of their own.
_ATTENTION = Layer("attention", (Attention(6656.0, 52.0, 52.0, 128.0),))
LAYER = Model("attention layer", "attention", 6656.0, 0.0, (Stack("decoder", (_ATTENTION,), (0,)),))
REQUESTS, CONTEXT = 16.0, 128.0


def cache_traffic(system: Num, relay: bool, requests: Num = REQUESTS) -> Num:
    """Bytes of cache one decode step moves, with a shared system prompt of that many tokens."""
    traffic = Batch(prompt=system + CONTEXT, output=2, batch=requests)
    shared = techniques.share_prefix(system, contrast(False, relay))
    return evaluate(scenario(LAYER, "a40", traffic, under=[shared])).phase("decode").reads("kv")


def prompt_reads(requests: float) -> float:
    """How often the system prompt's cache is read, each request for itself over relayed."""
    system = 1024.0
    own, relayed = (
        cache_traffic(system, relay, requests) - cache_traffic(0.0, relay, requests) for relay in (False, True)
    )
    return float(own / relayed)


SYSTEMS = (64, 128, 256, 512, 1024, 2048)  # tokens of the system prompt in the serving benchmarks


@cache
def chat(system: int, relay: bool, machine: str = "1xa100-sxm-80gb", requests: int = 1000) -> SimulatedRun:
    """Llama-2-7B serves a chat whose requests all begin with a system prompt, kept once: read once a step, or by each
    request for itself. All requests are there from the start."""
    shared = techniques.share_prefix(system, contrast(False, relay))
    base = scenario("llama-2-7b", machine, Batch(1, 1, 1), under=[shared])
    return served(base, scheduler="prefill_first", max_len=4096).play(synthetic(
        requests, concurrency=requests, prompt="lognormal:mean=161.31,cv=1,high=1024",
        output="lognormal:mean=337.99,cv=1,high=1024", system=system,
    ))  # fmt: skip


def throughput() -> float:
    """Time of a whole run, each for itself over relayed; the best of the prompts."""
    return max(chat(n, False).totals["end"] / chat(n, True).totals["end"] for n in SYSTEMS)


def sustained() -> float:
    """Requests per second while there always are more, relayed over each for itself; the best of the prompts."""
    return max(full_rate(chat(n, True)) / full_rate(chat(n, False)) for n in SYSTEMS)


_STEPS = (
    "2.2x and 2.3x at 1024 tokens, more at 2048. Relayed, a step of 250 sequences takes 65 ms here; missing are the "
    "host time of vLLM 0.2.6 (Python, between steps), which both sides pay, and a last-level cache that serves part of "
    "what requests read of the same blocks without relaying."
)

PAPER = Paper(
    slug="relayattention",
    title="RelayAttention for Efficient Large Language Model Serving with Long System Prompts",
    source="arXiv:2402.14808",
    mechanism="The shared prompt's keys and values are read once for a whole batch of queries.",
    claims=(
        Claim("reads of the system prompt's cache per step, 16 requests, each for itself over relayed", REQUESTS, "x",
              "count", "abstract (exactly once for a batch)", lambda: prompt_reads(REQUESTS), extra=True),
        Claim("reads of the system prompt's cache per step, 32 requests", 32.0, "x", "count",
              "abstract (exactly once for a batch)", lambda: prompt_reads(32.0), extra=True),
        Claim("sustainable request rate, Llama-2-7B in a chat", 2.2, "x", "up-to", "abstract of an earlier version",
              sustained, extra=True, why=_STEPS),
        Claim("throughput, Llama-2-7B in a chat", 2.0, "x", "up-to", "abstract of an earlier version", throughput,
              extra=True, why=_STEPS),
    ),
    assumptions=(
        "52 heads of 128, 16 requests of 128 tokens, system prompts of 64 to 1024 (benchmark script of the repository)",
        "the baseline already stores the shared prompt once (vLLM with prefix caching)",
        "serving: an A100, system prompts of 64 to 2048 tokens, 1000 requests at once (slurm_*_bench_sharegpt.sh of "
        "the repository), read as the 80 GB card; prompts in steps of their own, as vLLM then did",
        "lengths of ShareGPT with the means of vLLM's paper, log-normal, at most 1024 tokens each (the repository's "
        "benchmark_throughput.py drops longer prompts)",
        "the rate that can be sustained is the rate of a server that always has work",
    ),
)  # fmt: skip
