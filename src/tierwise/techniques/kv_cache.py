"""Fewer, smaller or shared entries in the KV cache, and fewer of them read."""

from __future__ import annotations

from tierwise.core.num import Num, num
from tierwise.techniques._make import Technique, on_kv


def evict_kv(keep: Num = 1.0, budget: Num = float("inf")) -> Technique:
    """Keep a fraction of the past tokens, at most ``budget`` of them (H2O, arXiv:2306.14048; StreamingLLM,
    arXiv:2309.17453). Storage, reads and attention arithmetic shrink alike."""
    return on_kv("KV eviction", keep=num(keep), budget=num(budget))


def sparse_attention(read: Num = 1.0, budget: Num = float("inf"), selector_bits: Num = 0.0) -> Technique:
    """Keep everything but read only a part each decode step (Quest, arXiv:2406.10774).

    Args:
        read: fraction of the stored tokens read; ``budget``: at most this many.
        selector_bits: bits per stored key element read to choose them.
    """
    return on_kv("sparse attention", read=num(read), read_budget=num(budget), selector=num(selector_bits))


def low_rank_kv(rank: Num, window: Num = 0.0) -> Technique:
    """Store a fraction ``rank`` of the channels of keys and values, and the newest ``window`` tokens whole
    (CSKV, arXiv:2409.10593; MatryoshkaKV, arXiv:2410.14731)."""
    return on_kv("low-rank KV", rank=num(rank), window=num(window))


def rematerialize_kv() -> Technique:
    """Cache the layer input and recompute keys and values from it each step (XQuant, arXiv:2508.10395)."""
    return on_kv("KV rematerialization", remat=True)


def share_prefix(tokens: Num, relay: bool = False) -> Technique:
    """All prompts start with the same ``tokens`` tokens: cached once and not computed again.

    With ``relay`` their keys and values are also read once per batch instead of once per request
    (RelayAttention, arXiv:2402.14808).
    """
    return on_kv("shared prefix" + (", relayed" if relay else ""), shared_prefix=num(tokens), relay=relay)
