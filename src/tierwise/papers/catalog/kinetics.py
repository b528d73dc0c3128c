"""Kinetics: test-time scaling priced by arithmetic and memory traffic together.

Generated tokens each read the cache of all before them, so the cost of a long chain of thought grows with the
square of its length, and attention rather than parameters dominates.
"""

import numpy as np

from tierwise import Batch, Scenario, evaluate
from tierwise.core.num import Num, num
from tierwise.papers.fit import exponent
from tierwise.papers.types import NEEDS_SETUP, Claim, Paper

LENGTHS = num(2.0 ** np.arange(11, 16))  # generated tokens
INTENSITY = 562.5  # FLOP an element of traffic costs, for a B200 (stated)


def costs(model: str, length: Num) -> tuple[Num, Num]:
    """(attention, parameters) of generating ``length`` tokens, in equivalent FLOP; weights' bytes are shared out."""
    decode = evaluate(Scenario(model, "b200-sxm", Batch(prompt=1, output=length, batch=1))).phase("decode")
    scores = decode.total(lambda p: p.op.flops if p.op.kind == "attention" else 0.0)
    linear = decode.total(lambda p: p.op.flops if p.op.kind == "matmul" else 0.0)
    element = decode.step.act.bytes
    return (scores + INTENSITY * decode.reads("kv") / element) * decode.passes, linear * decode.passes


def dominance(model: str, length: float) -> float:
    attention, parameters = costs(model, length)
    return float(attention / parameters)


PAPER = Paper(
    slug="kinetics",
    title="Kinetics: Rethinking Test-Time Scaling Laws",
    source="arXiv:2506.05333",
    mechanism="Equivalent FLOP (arithmetic plus bytes times the machine's intensity) show attention dominating.",
    claims=(
        Claim("attention's cost over generated length", 2.0, "exponent", "exponent", "cost model, section 3",
              lambda: exponent(LENGTHS, costs("qwen3-8b", LENGTHS)[0]), extra=True),
        Claim("parameters' cost over generated length", 1.0, "exponent", "exponent", "cost model, section 3",
              lambda: exponent(LENGTHS, costs("qwen3-8b", LENGTHS)[1]), extra=True),
        Claim("attention over parameters, Qwen3-0.6B, 32K generated (orders of magnitude)", 100.0, "x", "at-least",
              "analysis of long chains of thought", lambda: dominance("qwen3-0.6b", 32768.0), extra=True,
              why="'orders of magnitude' is read as at least two, for the smallest model"),
        Claim("cost of compute-optimal choices over Kinetics' on AIME24", 3.0, "x", "up-to", "project page, figure 1",
              missing=NEEDS_SETUP, extra=True, why="needs the measured accuracy of each model and length"),
    ),
    assumptions=(
        "562.5 FLOP per element of cache traffic; weights' reads amortised over a large batch (repository)",
        "Qwen3, 2048 to 32768 generated tokens, one request, prompt negligible",
    ),
)  # fmt: skip
