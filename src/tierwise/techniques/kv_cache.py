"""Fewer, smaller or shared entries in the KV cache, and fewer of them read."""

from __future__ import annotations

from dataclasses import replace

from tierwise.core.num import Num, num
from tierwise.models.facts import blocks, facts_of
from tierwise.models.types import Model
from tierwise.scenario.types import Scenario
from tierwise.techniques._make import (
    MANY,
    NothingMatched,
    Technique,
    applied,
    following,
    on_kv,
    prompts_are_encoded,
    running,
    within,
)


def evict_kv(keep: Num = 1.0, budget: Num = float("inf")) -> Technique:
    """Keep a fraction of the past tokens, at most ``budget`` of them (H2O, arXiv:2306.14048; StreamingLLM,
    arXiv:2309.17453). Storage, reads and attention arithmetic shrink alike.

    Example: ``evict_kv:keep=0.5,budget=4096``
    """
    within("evict_kv", 0, 1, keep=keep)
    within("evict_kv", 0, float("inf"), budget=budget)
    return on_kv("KV eviction", "evict", lambda kv: kv.and_evicted(num(keep), num(budget)))


def sparse_attention(read: Num = 1.0, budget: Num = float("inf"), selector_bits: Num = 0.0) -> Technique:
    """Keep everything but read only a part each decode step (Quest, arXiv:2406.10774).

    Args:
        read: fraction of the stored tokens read; ``budget``: at most this many.
        selector_bits: bits per stored key element read to choose them.

    Example: ``sparse_attention:budget=1024,selector_bits=4``
    """
    within("sparse_attention", 0, 1, read=read)
    within("sparse_attention", 0, float("inf"), budget=budget)
    within("sparse_attention", 0, 64, selector_bits=selector_bits)
    return on_kv("sparse attention", "read", lambda kv: kv.and_sparse(num(read), num(budget), num(selector_bits)))


def low_rank_kv(rank: Num, window: Num = 0.0) -> Technique:
    """Store a fraction ``rank`` of the channels of keys and values, and the newest ``window`` tokens whole
    (CSKV, arXiv:2409.10593; MatryoshkaKV, arXiv:2410.14731).

    Example: ``low_rank_kv:rank=0.25,window=32``
    """
    within("low_rank_kv", 0, 1, rank=rank)
    within("low_rank_kv", 0, MANY, window=window)
    return on_kv("low-rank KV", "rank", lambda kv: kv.and_low_rank(num(rank), num(window)))


def rematerialize_kv() -> Technique:
    """Cache the layer input and recompute keys and values from it each step (XQuant, arXiv:2508.10395)."""
    return on_kv("KV rematerialization", "remat", lambda kv: kv.and_rematerialized())


def share_prefix(tokens: Num, relay: bool = False) -> Technique:
    """All prompts start with the same ``tokens`` tokens: cached once and not computed again.

    With ``relay`` their keys and values are also read once per batch instead of once per request
    (RelayAttention, arXiv:2402.14808).

    Example: ``share_prefix:tokens=1024,relay=true``
    """
    within("share_prefix", 0, MANY, tokens=tokens)
    name = "shared prefix" + (", relayed" if relay else "")

    def technique(s: Scenario) -> Scenario:
        r = s.resolved()
        if not any(stack.stream == "text" for stack in running(r.model)):
            raise NothingMatched(name, r.model.name, "it processes no prompt token by token")
        if prompts_are_encoded(r.model):
            raise NothingMatched(name, r.model.name, "its prompts go to an encoder, which keeps nothing to start from")
        matched = following(name, r.model, "relay") if relay else tuple(_starting(r.model).items())
        plan = s.plan if s.plan is not None else r.plan
        return applied(replace(s, plan=replace(plan, kv=plan.kv.and_prefix(num(tokens), relay))), name, matched,
                       r.model.name, "nothing in it keeps past tokens or a state")  # fmt: skip

    return technique


def _starting(model: Model) -> dict[str, float]:
    """Layers that can start behind a prefix: from its cache, or from the state at its end."""
    out: dict[str, float] = {}
    for stack in running(model):
        for block, n in blocks(stack):
            facts = facts_of(block)
            if (facts.cache is not None and "prefix" not in facts.cache.refuses) or facts.state:
                what = "caches" if facts.cache is not None else "recurrent states"
                out[what] = out.get(what, 0.0) + float(n)
    return out
