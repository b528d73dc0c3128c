"""DLPM (arXiv:2501.14312): among clients that have not used up their share, the request with the longest cached prefix
goes first; D2LPM spreads clients over workers in the same way."""

from __future__ import annotations

from tierwise.papers.types import NEEDS_SETUP, Claim, Paper

_TRAFFIC = (
    "What decides is how much of their prefixes the clients' requests share, in which order they come and how much of "
    "it the cache holds: workloads, rates per client, GPUs and quantum stand in no text or code found (no repository "
    "is named). Of the mechanism, the scheduler `fair` and the routers `deficit` and `prefix_aware` are there."
)

PAPER = Paper(
    slug="dlpm",
    title="Locality-aware Fair Scheduling in LLM Serving",
    source="arXiv:2501.14312",
    mechanism="Longest prefix first as long as no client falls behind by more than a quantum of service.",
    claims=(
        Claim("throughput over fairness alone (VTC)", 2.87, "x", "up-to", "abstract", missing=NEEDS_SETUP,
              why=_TRAFFIC),
        Claim("latency of a client, a distributed server without fairness over D2LPM", 7.18, "x", "up-to", "abstract",
              missing=NEEDS_SETUP, why=_TRAFFIC),
    ),
)  # fmt: skip
