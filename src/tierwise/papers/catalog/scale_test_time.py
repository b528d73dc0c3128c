"""SCALE (arXiv:2512.00466): a problem is cut into steps; easy ones are answered briefly, hard ones thought through."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import tierwise as tw
from tierwise.papers.base import scenario
from tierwise.papers.types import Claim, Paper

CARRIED = 256.0  # tokens each iteration starts from: the problem, and what earlier ones left


@dataclass(frozen=True)
class Spent:
    """Tokens of one iteration and of a whole problem (table 1)."""

    each: float
    total: float

    @property
    def iterations(self) -> float:
        return self.total / self.each


# By model and benchmark: iterating with summaries (InftyThink), and SCALE.
TABLE = {
    ("qwen3-32b", "AIME24"): (Spent(5900, 38451), Spent(3550, 25581)),
    ("qwen3-32b", "AIME25"): (Spent(6538, 36640), Spent(3709, 26643)),
    ("qwen3-32b", "AMC23"): (Spent(3723, 23117), Spent(1991, 12556)),
    ("qwen/qwq-32b", "AIME24"): (Spent(8722, 62557), Spent(4157, 29812)),
    ("qwen/qwq-32b", "AIME25"): (Spent(10114, 73473), Spent(4673, 33965)),
    ("qwen/qwq-32b", "AMC23"): (Spent(5449, 34725), Spent(2551, 16259)),
}
VOTE = Spent(7409, 59279)  # Qwen3-32B on AIME24, eight chains


@cache
def work(model: str, spent: Spent) -> float:
    """FLOP of one problem: every iteration reads what was carried over and generates its tokens."""
    one = tw.evaluate(scenario(model, "1xh100-sxm", tw.Batch(prompt=CARRIED, output=spent.each, batch=1)))
    return spent.iterations * float(sum(p.flops * p.passes for p in one.phases))


def saved(key: tuple[str, str]) -> float:
    """Percent of the computation saved."""
    uniform, selective = TABLE[key]
    return 100.0 * (1.0 - work(key[0], selective) / work(key[0], uniform))


_INPUT = "how many tokens the models wrote is the authors' measurement, and their ratio alone gives this"

PAPER = Paper(
    slug="scale-test-time",
    title="SCALE: Selective Resource Allocation for Overcoming Performance Bottlenecks in Mathematical Test-time "
    "Scaling",
    source="arXiv:2512.00466",
    mechanism="Fewer and shorter chains of thought: work follows the tokens generated and what each of them sees.",
    claims=(
        Claim("computation saved against iterating uniformly, lower end: Qwen3-32B, AIME24", 33.0, "%", "ratio",
              "abstract; table 1", lambda: saved(("qwen3-32b", "AIME24")), identity=True, metric="count", why=_INPUT),
        Claim("computation saved against iterating uniformly, upper end: QwQ-32B, AIME25", 53.0, "%", "ratio",
              "abstract; table 1", lambda: saved(("qwen/qwq-32b", "AIME25")), identity=True, metric="count",
              why=_INPUT),
        Claim("computation of a majority vote over SCALE's, Qwen3-32B, AIME24", (2.0, 3.0), "x", "ratio",
              "section on main results",
              lambda: work("qwen3-32b", VOTE) / work("qwen3-32b", TABLE["qwen3-32b", "AIME24"][1]), extra=True,
              identity=True, metric="count", why=_INPUT),
    ),
    assumptions=(
        "Tokens of an iteration and of a problem: table 1 (paper/AAAI26.pdf in the authors' repository); the baseline "
        "of the abstract's range is InftyThink (section on resource utilisation).",
        "The range is that of Qwen3-32B on AIME24 and of QwQ; other pairs of the table save 8 to 46 % of the tokens.",
        "256 tokens carried into each iteration, assumed; all of them are read anew.",
    ),
)  # fmt: skip
