"""ALISA (arXiv:2403.17312): a step attends to a fifth of the tokens, from a cache in 8 bits that lies on the GPU as far
as it fits and in the host's memory beyond."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

import tierwise as tw
from tierwise import techniques
from tierwise.papers.base import scenario
from tierwise.papers.serving import served
from tierwise.papers.types import Claim, Paper
from tierwise.serving.traffic.synthetic import synthetic

Floats = NDArray[np.float64]

HOST = "epyc-7742 + 512GB ddr4"
CASES = (("opt-6.7b", f"v100-sxm-16gb + {HOST}"), ("opt-6.7b", f"v100-sxm-32gb + {HOST}"),
         ("opt-13b", f"v100-sxm-32gb + {HOST}"), ("opt-30b", f"h100-sxm + {HOST}"))  # fmt: skip
BATCHES = np.array([4.0, 8.0, 16.0, 32.0, 64.0])
PROMPT, OUTPUT = 128.0, 512.0
KEPT, BITS = 0.2, 8  # share of the tokens attended to, bits of their cache
AWAY = np.linspace(0.05, 1.0, 20)  # of the cache in the host's memory


def base(model: str, machine: str) -> tw.Scenario:
    """FlexGen's code, on which ALISA is built, without anything in the host's memory: every batch, as a column."""
    return scenario(model, machine, tw.Batch(PROMPT, OUTPUT, BATCHES[:, None]), under=[techniques.eager()])


def fastest(s: tw.Scenario, *how: Callable[[tw.Scenario], tw.Scenario]) -> Floats:
    """Tokens per second, by batch, with as much of the cache in the host's memory as is best, of what fits."""
    results = (tw.evaluate(s), tw.evaluate(s.apply(techniques.offload_kv(AWAY), *how)))
    near, far = (np.max(np.where(r.fits, r.throughput, 0.0), axis=1) for r in results)
    rates: Floats = np.maximum(near, far)
    return rates


@cache
def flexgen(model: str, machine: str) -> Floats:
    """The better of two ways: the next layer's part of the cache is read from the host while the GPU computes, or all
    of it stays there and the host's processor computes attention."""
    whole = base(model, machine)
    host = tw.evaluate(whole.apply(techniques.compute_in("host")))
    there = np.max(np.where(host.fits, host.throughput, 0.0), axis=1)
    rates: Floats = np.maximum(fastest(whole, techniques.schedule("offload")), there)
    return rates


@cache
def alisa(model: str, machine: str) -> Floats:
    """What is attended to is chosen in each layer, so it is fetched before the layer goes on."""
    few = (techniques.sparse_attention(KEPT), techniques.quantize_kv(bits=BITS))
    return fastest(base(model, machine).apply(*few))


@cache
def vllm(model: str, machine: str) -> Floats:
    """Tokens per second of vLLM, which holds what fits on the GPU and lets others wait."""
    s = scenario(model, machine, tw.Batch(1, 1, 1))
    server = served(s, max_len=int(PROMPT + OUTPUT), prefix_cache=False)
    counts = [int(b) for b in BATCHES]
    runs = [server.play(synthetic(n, concurrency=n, prompt=int(PROMPT), output=int(OUTPUT))) for n in counts]
    return np.array([r.totals["output_tokens"] / r.totals["end"] if r.totals["end"] else 0.0 for r in runs])


def gains(other: Callable[[str, str], Floats]) -> Floats:
    """Over the other system, nan where that cannot run: (models and GPUs, batches)."""
    ours, theirs = (np.array([system(*case) for case in CASES]) for system in (alisa, other))
    out: Floats = np.full_like(ours, np.nan)
    np.divide(ours, theirs, out=out, where=theirs > 0)
    return out


def best(other: Callable[[str, str], Floats]) -> float:
    """The largest gain over models, GPUs and batches."""
    return float(np.nanmax(gains(other)))


_LINK = (
    "Up to 1.3x where FlexGen's cache fits on the GPU, up to 2.6x where it does not at 16 and 32 requests, at 64 3.3 "
    "(OPT-6.7B) and 4.7x (OPT-30B): FlexGen then computes attention on the host at its memory's rate, while ALISA "
    "fetches a fifth of the cache in half the bits at the link's full rate. Missing: gathering single tokens at a part "
    "of that rate, and choosing them in each layer."
)
_WAIT = (
    "1.0 to 1.8x for OPT-6.7B on a V100 of 32 GB and OPT-30B on an H100; up to 6x where weights leave little room, for "
    "vLLM then serves a few requests at a time. Missing as above: what gathering and choosing tokens costs."
)

PAPER = Paper(
    slug="alisa",
    title="ALISA: Accelerating Large Language Model Inference via Sparsity-Aware KV Caching",
    source="arXiv:2403.17312",
    mechanism="Attention to a window and the tokens that matter; tokens move between GPU and host one by one.",
    claims=(
        Claim("tokens per second over FlexGen", 3.0, "x", "up-to", "abstract", lambda: best(flexgen), why=_LINK),
        Claim("tokens per second over vLLM", 1.9, "x", "up-to", "abstract", lambda: best(vllm), why=_WAIT),
    ),
    assumptions=(
        "V100 of 16 and 32 GB and H100 of 80 GB, OPT 6.7B, 13B and 30B, prompts of 128 and answers of 512 tokens, 4 to "
        "64 requests at once, four fifths of the cache not attended to, 8 bits (section VI); each model on the "
        "cards that hold its weights with some room",
        "links to the host as the cards' slots have them; the paper gives 20 GB/s for all",
        "half of what is attended to is the newest and on the GPU (section IV): here what is attended to lies on the "
        "host in the proportion of the whole cache, so up to twice as much is fetched",
        "FlexGen's weights stay on the GPU, and its attention is computed there or on the host (--cpu-cache-compute of "
        "its code), whichever is faster. The authors' host is a Xeon of 2.6 GHz with 128 GB: taken for one EPYC 7742.",
        "Eager launches on both sides; recomputing instead of fetching, which the paper counts as 1.2 to 1.3 times, is "
        "left out",
    ),
)  # fmt: skip
