"""Why long contexts are expensive: every extra cost traces back to the size of the KV cache.

An analysis at theoretical peak of a 34B model on one A100: prefill by arithmetic, decoding by bytes, users by
what the weights leave free.
"""

from functools import cache

from tierwise import Batch, evaluate, techniques
from tierwise.papers.base import scenario
from tierwise.papers.types import Claim, Paper
from tierwise.result import Result

GiB = 2.0**30
SHORT, LONG, SCREEN = 4096.0, 50000.0, 250.0  # contexts, and the tokens of one screen


@cache
def at(context: float, output: float = SCREEN) -> Result:
    """One user at that context, on a machine that reaches its datasheet."""
    traffic = Batch(prompt=context, output=output, batch=1)
    return evaluate(scenario("yi-34b-200k", "a100-sxm-80gb", traffic, under=[techniques.roofline()]))


def decode(context: float) -> float:
    return float(SCREEN * at(context).tpot)


def users(context: float) -> float:
    """The paper's concurrency: what weights leave free over one user's cache, activations aside."""
    memory = at(context, 1.0).memory
    return float((memory.capacity - memory.weight_bytes) / memory.per_sequence)


_SECTION = "section 2, running example"
PAPER = Paper(
    slug="long-context-peak-performance",
    title="Challenges in Deploying Long-Context Transformers: A Theoretical Peak Performance Analysis",
    source="arXiv:2405.08944",
    mechanism="Four costs (prefill, users, decoding, swapping) follow from the cache's bytes.",
    claims=(
        Claim("prefill of 4K tokens", 0.89, "s", "absolute", _SECTION, lambda: float(at(SHORT).ttft), extra=True),
        Claim("prefill of 50K tokens", 14.1, "s", "absolute", _SECTION, lambda: float(at(LONG).ttft), extra=True,
              why="attention counted in full: causal scores and their product with values; the published time "
              "agrees with half of that"),
        Claim("250 tokens after 4K", 8.5, "s", "absolute", _SECTION, lambda: decode(SHORT), extra=True),
        Claim("250 tokens after 50K", 9.8, "s", "absolute", _SECTION, lambda: decode(LONG), extra=True),
        Claim("users of 4K that fit", 20.0, "", "memory", _SECTION, lambda: users(SHORT), extra=True, metric="capacity",
              why="the published number is a round one: 34.4 billion parameters leave room for 17"),
        Claim("users of 50K that fit", 1.0, "", "count", _SECTION, lambda: float(users(LONG) // 1.0), extra=True,
              metric="capacity"),
    ),
    assumptions=(
        "Yi-34B-200K, 16-bit, one A100 80GB at its datasheet's rates (running example)",
        "80 GB are what the driver reports (80 GiB): the paper's own 20 and 1 users need it",
        "250 tokens a screen; 4K read as 4096, 50K as 50000",
    ),
)  # fmt: skip
