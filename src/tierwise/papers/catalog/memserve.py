"""MemServe (arXiv:2406.17565): a pool of memory over all instances keeps keys and values after a request, finds them by
prompt and moves them between prefill and decode instances, so that both caching and disaggregation apply."""

from __future__ import annotations

from tierwise.papers.types import NEEDS_SETUP, Claim, Paper

_RATES = (
    "Llama-2-13B on a server of eight H800 is stated; request rates, turns and shared parts of the conversations and "
    "documents as cut for the model's context are not, and near saturation the rate decides how much completes sooner."
)

PAPER = Paper(
    slug="memserve",
    title="MemServe: Context Caching for Disaggregated LLM Serving with Elastic Memory Pool",
    source="arXiv:2406.17565",
    mechanism="One index and one set of transfers for prefixes that are reused and for caches handed from prefill on.",
    claims=(
        Claim("completion time on ShareGPT, disaggregated, less by", 42.0, "%", "up-to", "section 8", extra=True,
              missing=NEEDS_SETUP, why=_RATES),
        Claim("completion time on ShareGPT, disaggregated with caching over without, less by", 29.0, "%", "up-to",
              "section 8", extra=True, missing=NEEDS_SETUP, why=_RATES),
        Claim("completion time on LooGLE, disaggregated, less by", 10.8, "%", "up-to", "section 8", extra=True,
              missing=NEEDS_SETUP, why=_RATES),
        Claim("completion time on LooGLE, disaggregated with caching over without, less by", 26.9, "%", "up-to",
              "section 8", extra=True, missing=NEEDS_SETUP, why=_RATES),
    ),
    assumptions=("The abstract has no number; those of the evaluation as public summaries of version 3 give them.",),
)  # fmt: skip
