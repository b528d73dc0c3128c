"""The I/O complexity of attention: how much must cross between a small fast memory and a large slow one.

Attention of N tokens and width d moves about N²d²/M elements when M, at least d², fit on chip, which
FlashAttention attains; below d², tiled products move N²d/√M.
"""

import numpy as np

from tierwise.core.num import Num, num
from tierwise.cost.tiling import attention_traffic
from tierwise.papers.fit import exponent
from tierwise.papers.types import Claim, Paper


def traffic(tokens: Num, width: Num, fast: Num) -> Num:
    """Elements moved by one head, over the best tiles that fit."""
    return attention_traffic(tokens, tokens, width, width, fast)


def powers(low: int, high: int) -> Num:
    return num(2.0 ** np.arange(low, high + 1))


PAPER = Paper(
    slug="attention-io-complexity",
    title="The I/O Complexity of Attention, or How Optimal is Flash Attention?",
    source="arXiv:2402.07443",
    mechanism="A lower bound on attention's traffic that fused attention meets when the fast memory holds d² elements.",
    claims=(
        Claim("traffic over fast memory, M >= d²", -1.0, "exponent", "exponent", "abstract",
              lambda: exponent(powers(12, 17), traffic(2.0**18, 64.0, powers(12, 17)))),
        Claim("traffic over sequence length, M >= d²", 2.0, "exponent", "exponent", "abstract",
              lambda: exponent(powers(14, 19), traffic(powers(14, 19), 64.0, 2.0**15))),
        Claim("traffic over head width, M >= d²", 2.0, "exponent", "exponent", "abstract",
              lambda: exponent(powers(5, 8), traffic(2.0**18, powers(5, 8), 2.0**16))),
        Claim("traffic over fast memory, M < d²", -0.5, "exponent", "exponent", "result for small caches, section 4",
              lambda: exponent(powers(8, 14), traffic(2.0**18, 4096.0, powers(8, 14))), extra=True),
    ),
    assumptions=(
        "two memories, counted in elements; forward pass, no mask, one head",
        "sweeps long against the fast memory, so that reading inputs and writing outputs once does not show",
    ),
)  # fmt: skip
