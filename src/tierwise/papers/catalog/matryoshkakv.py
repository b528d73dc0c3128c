"""MatryoshkaKV: keys and values are projected on nested orthogonal bases, and only the leading part is stored.

Ranks are searched per layer and head for a given budget, so that the budget is the mean rank.
"""

from tierwise import Batch, compare, techniques
from tierwise.core.num import Num
from tierwise.papers.base import scenario
from tierwise.papers.types import Claim, Paper

BASE = scenario("llama-2-7b", "a100-sxm-80gb", Batch(prompt=2048, output=2, batch=1))


def reduction(budget: Num) -> float:
    """Percent of the cache that is saved."""
    return 100.0 * (1.0 - float(compare(BASE, BASE.apply(techniques.low_rank_kv(rank=budget))).memory.kv))


PAPER = Paper(
    slug="matryoshkakv",
    title="MatryoshkaKV: Adaptive KV Compression via Trainable Orthogonal Projection",
    source="arXiv:2410.14731",
    mechanism="Trainable orthogonal projections with nested ranks shrink what is cached of a head.",
    claims=(
        Claim("cache saved at over 90 % of the quality", 60.0, "%", "memory", "abstract", lambda: reduction(0.375),
              identity=True,
              why="the budget of 37.5 % is an input, so this is bookkeeping"),
        Claim("cache saved at most", 75.0, "%", "memory", "abstract", lambda: reduction(0.25),
              identity=True,
              why="the budget of 25 % is an input, so this is bookkeeping"),
    ),
    assumptions=(
        "LLaMA2-7B; 37.5 % of the cache keeps over 90 % of the quality (reported results of the paper)",
        "budgets in eighths of the head's width (as recalled, not re-checked)",
        "the projections themselves (half a percent of the weights) are not in the claims and not counted",
    ),
)  # fmt: skip
