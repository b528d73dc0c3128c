"""Kinetics: test-time scaling priced by arithmetic and memory traffic together.

Generated tokens each read the cache of all before them, so the cost of a long chain of thought grows with the
square of its length, and attention rather than parameters dominates.
"""

import numpy as np

from tierwise import Batch, evaluate
from tierwise.core.num import Num, num
from tierwise.papers.base import scenario
from tierwise.papers.fit import exponent
from tierwise.papers.types import NEEDS_SETUP, Claim, Paper

LENGTHS = num(2.0 ** np.arange(11, 16))  # generated tokens
INTENSITY = 562.5  # FLOP an element of traffic costs, for a B200 (stated)


def costs(model: str, length: Num) -> tuple[Num, Num]:
    """(attention, parameters) of generating ``length`` tokens, in equivalent FLOP; weights' bytes are shared out."""
    decode = evaluate(scenario(model, "b200-sxm", Batch(prompt=1, output=length, batch=1))).phase("decode")
    scores = decode.total(lambda p: p.op.flops if p.op.kind == "attention" else 0.0)
    linear = decode.total(lambda p: p.op.flops if p.op.kind == "matmul" else 0.0)
    element = 2.0  # bytes, 16 bits
    return (scores + INTENSITY * decode.reads("kv") / element) * decode.passes, linear * decode.passes


PAPER = Paper(
    slug="kinetics",
    title="Kinetics: Rethinking Test-Time Scaling Laws",
    source="arXiv:2506.05333",
    mechanism="Equivalent FLOP (arithmetic plus bytes times the machine's intensity) show attention dominating.",
    claims=(
        Claim("attention's cost over generated length", 2.0, "exponent", "exponent", "cost model, section 3",
              lambda: exponent(LENGTHS, costs("qwen3-8b", LENGTHS)[0]), extra=True, identity=True,
              why="by the cost model: each token reads all before it"),
        Claim("parameters' cost over generated length", 1.0, "exponent", "exponent", "cost model, section 3",
              lambda: exponent(LENGTHS, costs("qwen3-8b", LENGTHS)[1]), extra=True, identity=True,
              why="by the cost model: each token costs the same"),
        Claim("cost of compute-optimal choices over Kinetics' on AIME24", 3.0, "x", "up-to", "project page, figure 1",
              missing=NEEDS_SETUP, extra=True, why="needs the measured accuracy of each model and length"),
    ),
    assumptions=(
        "562.5 FLOP per element of cache traffic; weights' reads amortised over a large batch (repository)",
        "that attention dominates 'by orders of magnitude' has no number; 447 times for Qwen3-0.6B at 32K tokens here",
        "Qwen3, 2048 to 32768 generated tokens, one request, prompt negligible",
    ),
)  # fmt: skip
