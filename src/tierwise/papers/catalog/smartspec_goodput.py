"""SmartSpec (arXiv:2406.14066): before each step, as many drafts as give the most tokens a second at today's load."""

from __future__ import annotations

from functools import cache

import numpy as np

import tierwise as tw
from tierwise.papers.base import contrast, scenario
from tierwise.papers.serving import Served, served
from tierwise.papers.types import NEEDS_SETUP, Claim, Paper
from tierwise.serving.deployment import Speculation
from tierwise.serving.traffic.synthetic import synthetic

MACHINE, TARGET, DRAFTER = "1xa100-sxm-80gb", "vicuna-7b", "pythia-160m"
BLOCKS = 7367  # of 16 tokens, on the authors' H100
# Tokens a second there, by acceptance: always one draft, and as many as pay; without drafts 1726.77.
MEASURED, NO_DRAFTS = {0.7: (1731.16, 1926.53), 0.8: (1762.52, 2062.29), 0.9: (1821.42, 2320.81)}, 1726.77
ACCEPT, RATES, LONGEST = (0.3, 0.6, 0.9), (1.0, 8.0, 32.0), 8


@cache
def draft_cost(machine: str = MACHINE) -> float:
    """Time of a drafter's step over the target's."""
    one, other = (
        float(tw.evaluate(scenario(m, machine, tw.Batch(prompt=300, output=100, batch=1))).tpot)
        for m in (DRAFTER, TARGET)
    )
    return one / other


@cache
def server() -> Served:
    return served(scenario(TARGET, MACHINE, tw.Batch(1, 1, 1), tw.Plan()), prefix_cache=False)


@cache
def offline(most: int) -> Served:
    """The authors' server, which runs at most so many requests at once."""
    return served(
        scenario(TARGET, "1xh100-sxm", tw.Batch(1, 1, 1), tw.Plan()), prefix_cache=False,
        max_seqs=most, scheduler="prefill_first", max_len=4096,
    ).with_room(tokens=BLOCKS * 16.0)  # fmt: skip


@cache
def latency(rate: float, accept: float, length: int, adaptive: bool) -> float:
    """Mean seconds from a request to its last token."""
    drafts = Speculation(length, accept, draft_cost(), length, adaptive)
    requests = server().but(speculation=drafts).play(synthetic(
        200, rate=rate, prompt="lognormal:mean=300,cv=1,high=2000", output="lognormal:mean=150,cv=1,high=1000",
    )).requests  # fmt: skip
    return float(np.mean(requests.last - requests.arrival))


def gain(rate: float, accept: float) -> float:
    """Latency without drafts over that with as many as pay."""
    return latency(rate, accept, 0, False) / latency(rate, accept, *contrast((0, False), (LONGEST, True)))


@cache
def throughput(accept: float, length: int, adaptive: bool) -> float:
    """Tokens a second of 128 requests at once, 1024 in and 128 out, in the room the authors' GPU had."""
    drafts = Speculation(length, accept, draft_cost("1xh100-sxm"), length, adaptive)
    # Nine tenths of the requests that fit run at once; with drafts five fewer.
    most = int(0.9 * BLOCKS * 16 / (1024 + 128)) - (5 if length else 0)
    run = offline(most).but(speculation=drafts).play(synthetic(128, concurrency=128, prompt=1024, output=128))
    return run.totals["output_tokens"] / run.totals["end"]


def adaptive_over(accept: float, length: int) -> float:
    """Throughput with up to 7 drafts, as many as pay, over that with always so many."""
    return throughput(accept, *contrast((length, False), (7, True))) / throughput(accept, length, False)


def _offline(accept: float) -> tuple[Claim, Claim]:
    """The authors' measurements of throughput at one acceptance."""
    one, most = MEASURED[accept]
    what, place = f"throughput of adaptive drafts, {accept:.0%} right, over", "plot_offline_new.py of the authors' fork"
    return (
        Claim(f"{what} one draft", most / one, "x", "ratio", place, lambda: adaptive_over(accept, 1), extra=True,
              blind=True, why="The acceptance is set, and steps of both sides are alike: an error of the engine "
                              "cancels."),
        Claim(f"{what} none", most / NO_DRAFTS, "x", "ratio", place, lambda: adaptive_over(accept, 0), extra=True,
              why="The draft and verify workers of the fork's vLLM (0.6) add about a quarter to a step with drafts, "
                  "which cancels between numbers of drafts; its steps without drafts are slower than today's, too."),
    )  # fmt: skip


PAPER = Paper(
    slug="smartspec-goodput",
    title="Optimizing Speculative Decoding for Serving Large Language Models Using Goodput",
    source="arXiv:2406.14066",
    mechanism="The number of drafts follows the batch: many while steps are bound by memory, none when they are not.",
    claims=(
        Claim("mean request latency without drafts over SmartSpec's", 3.2, "x", "up-to", "abstract of v1 and v2",
              missing=NEEDS_SETUP,
              why="How often drafts are right on the paper's data, which decides it; models, rates and data sets are "
                  "in the authors' fork (benchmarks/dsd/scripts). The simulator gives 1.2 to 1.6x where half of them "
                  "are right, 1.6 to 2.5x at 70 %, 2.7 to 4.7x at 90 % (Vicuna-7B on an A100, 1 to 32 requests a "
                  "second)."),
        Claim("the same, lowest over rates and acceptance: drafts never cost", 1.0, "x", "at-least",
              "abstract (consistently reduces)", lambda: min(gain(r, a) for r in RATES for a in ACCEPT), extra=True,
              metric="time", blind=True, why="no drafts are among what it chooses from, whatever steps cost"),
        *(claim for accept in MEASURED for claim in _offline(accept)),
    ),
    assumptions=(
        "Vicuna-7B and a drafter of 160 million weights (12 layers of 768 channels) on one A100, up to 8 drafts, 1 to "
        "32 requests a second, drafts right 30 to 90 % of the time: chosen to span what is common, not the paper's.",
        "Requests of 300 and 150 tokens on average, lognormal; a drafter's cost is its step over the target's.",
        "Throughput: Vicuna-7B and Vicuna-160M on an H100 with 7367 blocks, 128 requests of 1024 and 128 tokens, up to "
        "7 drafts, acceptance set (benchmarks/dsd/offline/mimic_low_memory_dsd.py and plots/plot_offline_new.py, "
        "branch dsd of LiuXiaoxuanPKU/vllm); prompts first and whole, as that vLLM schedules.",
    ),
)  # fmt: skip
