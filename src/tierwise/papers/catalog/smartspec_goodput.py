"""SmartSpec (arXiv:2406.14066): before each step, as many drafts as give the most tokens a second at today's load."""

from __future__ import annotations

from functools import cache

import numpy as np

import tierwise as tw
from tierwise.papers.catalog._serving import served
from tierwise.papers.types import NEEDS_SETUP, Claim, Paper
from tierwise.serving.deployment import Speculation
from tierwise.serving.traffic.synthetic import synthetic

MACHINE, TARGET, DRAFTER = "1xa100-sxm-80gb", "vicuna-7b", "pythia-160m"
ACCEPT, RATES, LONGEST = (0.3, 0.6, 0.9), (1.0, 8.0, 32.0), 8


@cache
def draft_cost() -> float:
    """Time of a drafter's step over the target's."""
    one, other = (
        float(tw.evaluate(tw.Scenario(m, MACHINE, tw.Batch(prompt=300, output=100, batch=1))).tpot)
        for m in (DRAFTER, TARGET)
    )
    return one / other


@cache
def latency(rate: float, accept: float, length: int, adaptive: bool) -> float:
    """Mean seconds from a request to its last token."""
    drafts = Speculation(length, accept, draft_cost(), length, adaptive)
    system = served(tw.Scenario(TARGET, MACHINE, tw.Batch(1, 1, 1), tw.Plan()), speculation=drafts, prefix_cache=False)
    requests = system.play(synthetic(
        200, rate=rate, prompt="lognormal:mean=300,cv=1,high=2000", output="lognormal:mean=150,cv=1,high=1000",
    )).requests  # fmt: skip
    return float(np.mean(requests.last - requests.arrival))


def gain(rate: float, accept: float) -> float:
    """Latency without drafts over that with as many as pay."""
    return latency(rate, accept, 0, False) / latency(rate, accept, LONGEST, True)


PAPER = Paper(
    slug="smartspec-goodput",
    title="Optimizing Speculative Decoding for Serving Large Language Models Using Goodput",
    source="arXiv:2406.14066",
    mechanism="The number of drafts follows the batch: many while steps are bound by memory, none when they are not.",
    claims=(
        Claim("mean request latency without drafts over SmartSpec's", 3.2, "x", "up-to", "abstract of v1 and v2",
              missing=NEEDS_SETUP,
              why="The best point's models, request rate, data and above all how often its drafts are right. The "
                  "simulator gives 1.2 to 1.6x where half of them are, 1.6 to 2.5x at 70 %, 2.7 to 4.7x at 90 % "
                  "(Vicuna-7B on an A100, 1 to 32 requests a second)."),
        Claim("the same, lowest over rates and acceptance: drafts never cost", 1.0, "x", "at-least",
              "abstract (consistently reduces)", lambda: min(gain(r, a) for r in RATES for a in ACCEPT), extra=True),
    ),
    assumptions=(
        "Vicuna-7B and a drafter of 160 million weights (12 layers of 768 channels) on one A100, up to 8 drafts, 1 to "
        "32 requests a second, drafts right 30 to 90 % of the time: chosen to span what is common, not the paper's.",
        "Requests of 300 and 150 tokens on average, lognormal; a drafter's cost is its step over the target's.",
    ),
)  # fmt: skip
