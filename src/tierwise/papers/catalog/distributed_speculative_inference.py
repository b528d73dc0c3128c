"""DSI (arXiv:2405.14105): drafting goes on while copies of the target verify; only a wrong draft makes it wait."""

from __future__ import annotations

from functools import cache

import numpy as np

import tierwise as tw
from tierwise.papers.base import contrast, scenario
from tierwise.papers.types import Claim, Paper
from tierwise.serving.drafts import expected_tokens, in_turns, servers, side_by_side
from tierwise.techniques import eager

# Seconds of a target's and a drafter's pass, and how often a draft is right (table 1; one A100 80GB).
PAIRS = {
    "Vicuna-13B, CNN-DM": (37.7e-3, 2.5e-3, 0.63),
    "Vicuna-13B, Alpaca": (33.3e-3, 2.5e-3, 0.58),
    "Vicuna-7B, CNN-DM": (29.4e-3, 2.5e-3, 0.67),
    "Vicuna-7B, Alpaca": (26.0e-3, 2.5e-3, 0.59),
    "Starcoder-15B, HumanEval": (20.6e-3, 6.8e-3, 0.93),
    "Starcoder-15B, MBPP": (21.0e-3, 6.8e-3, 0.90),
    "Phi3-14B, HumanEval": (52.1e-3, 34.0e-3, 0.95),
    "Phi3-14B, MBPP": (52.2e-3, 34.3e-3, 0.94),
    "Phi3-14B, CNN-DM": (52.4e-3, 34.6e-3, 0.93),
    "Phi3-14B, Alpaca": (49.6e-3, 33.4e-3, 0.87),
}
LENGTHS = np.array([1.0, 5.0, 10.0])  # drafts before a verification
TOKENS, TARGETS = 50, 7.0


@cache
def times(pair: str) -> tuple[tuple[float, ...], float]:
    """Seconds of 50 tokens: taking turns at each length, and side by side at the best length seven targets allow."""
    target, draft, accept = PAIRS[pair]
    turns = np.asarray(in_turns(accept, LENGTHS, draft, target, TOKENS))
    beside = np.asarray(side_by_side(accept, LENGTHS, draft, target, TOKENS))
    allowed = np.asarray(servers(LENGTHS, draft, target)) <= TARGETS
    return tuple(map(float, turns)), float(beside[allowed].min())


def gain(pair: str) -> float:
    """Over the mean of the lengths that drafting in turns was run with."""
    turns, beside = times(pair)
    mean = sum(turns) / len(turns)
    return mean / contrast(mean, beside)


@cache
def grid() -> tuple[float, float]:
    """(least, most) that drafting side by side gains on the faster of drafting in turns, at its best length, and no
    drafts at all: over drafters of 2 to 100 % of the target's time, right 0 to 98 % of the time."""
    cost, accept = np.meshgrid(np.linspace(0.02, 1.0, 50), np.linspace(0.0, 0.98, 50), indexing="ij")
    k = np.concatenate([np.arange(1.0, 31.0), np.arange(35.0, 201.0, 5.0)]).reshape(-1, 1, 1)
    turns = ((k * cost + 1.0) / np.asarray(expected_tokens(accept, k))).min(axis=0)
    # Side by side with a verification for each draft, a wrong draft costs a pass of the target whatever came before.
    run = accept / (1.0 - accept)
    beside = (run * cost + 1.0) / (run + 1.0)
    faster = np.minimum(turns, 1.0)
    ratio = faster / contrast(faster, beside)
    return round(float(ratio.min()), 9), float(ratio.max())


@cache
def pass_time(model: str) -> float:
    """Milliseconds of a decode step under transformers, at a context of a few hundred tokens."""
    traffic = tw.Batch(prompt=512, output=20, batch=1)
    s = scenario(model, "1xa100-sxm-80gb", traffic, under=[eager("transformers")])
    return 1e3 * float(tw.evaluate(s).tpot)


_READING = (
    "drafting in turns is the mean of its three lengths, drafting side by side the best the search allows, as section "
    "4 says; against the best of the three lengths it is 1.1 to 1.4x, against the worst 1.3 to 1.8x"
)

_OWN_CODE = (
    "Phi-3 then came with model code of its own in its repository, which starts more kernels a layer than the "
    "framework's; those counted are the framework's Llama layer"
)

PAPER = Paper(
    slug="distributed-speculative-inference",
    title="Distributed Speculative Inference of Large Language Models",
    source="arXiv:2405.14105",
    mechanism="Drafts are verified on several copies of the target while more are drafted.",
    claims=(
        Claim("speed over drafting in turns, lowest of the table", 1.29, "x", "ratio", "abstract; table 1",
              lambda: min(map(gain, PAIRS)), blind=True, why=_READING),
        Claim("speed over drafting in turns, highest of the table", 1.92, "x", "ratio", "abstract; table 1",
              lambda: max(map(gain, PAIRS)), blind=True, why=_READING),
        Claim("speed over the faster of drafting in turns and no drafts, highest of the map", 1.6, "x", "up-to",
              "figure 1d", lambda: grid()[1], extra=True, blind=True, why="latencies and acceptances are inputs"),
        Claim("the same, lowest of the map: never slower", 1.0, "x", "at-least", "figure 1; theorems 1 and 2",
              lambda: grid()[0], extra=True, identity=True, metric="time", why="a theorem of the arithmetic itself"),
        Claim("a pass of Vicuna-13B", (33.3, 37.7), "ms", "absolute", "table 1", lambda: pass_time("vicuna-13b"),
              extra=True),
        Claim("a pass of Vicuna-7B", (26.0, 29.4), "ms", "absolute", "table 1", lambda: pass_time("vicuna-7b"),
              extra=True),
        Claim("a pass of Phi-3 medium", (49.6, 52.4), "ms", "absolute", "table 1", lambda: pass_time("phi-3-medium"),
              extra=True, why=_OWN_CODE),
        Claim("a pass of Phi-3 mini", (33.4, 34.6), "ms", "absolute", "table 1", lambda: pass_time("phi-3-mini"),
              extra=True, why=_OWN_CODE),
    ),
    assumptions=(
        "Latencies of a pass and acceptance rates of ten pairs, 50 tokens, lengths of 1, 5 and 10, up to 7 copies of "
        "the target (table 1 and section 4, PMLR 262); what comes before the first token is left out.",
        "A drafter is right or wrong independently for each token, as in the authors' simulation.",
        "A length is allowed where the copies suffice: target's time over length times drafter's (section 3.1).",
        "The map has one draft to a verification and as many copies as that needs (section 4).",
        "For the passes: transformers run eagerly (section 4, models used as they are), 512 tokens of context assumed.",
    ),
)  # fmt: skip
