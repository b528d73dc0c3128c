"""CSKV: keys and values of old tokens are kept in a low-rank basis, a few recent ones whole.

Projections are factored, so that a fifth of the channels is stored; quantization comes on top.
"""

from collections.abc import Callable

from tierwise import Batch, Scenario, compare, techniques
from tierwise.papers.base import scenario
from tierwise.papers.types import Claim, Paper

# LongChat-7B has the shapes of Vicuna-7B.
BASE = scenario("vicuna-7b", "a100-sxm-80gb", Batch(prompt=16384, output=2, batch=1))
SHRINK = techniques.low_rank_kv(rank=0.2, window=32)


def reduction(*changes: Callable[[Scenario], Scenario]) -> float:
    """Percent of the cache that is saved."""
    return 100.0 * (1.0 - float(compare(BASE, BASE.apply(*changes)).memory.kv))


PAPER = Paper(
    slug="cskv",
    title="CSKV: Training-Efficient Channel Shrinking for KV Cache in Long-Context Scenarios",
    source="arXiv:2409.10593",
    mechanism="Low-rank features for old tokens, a full-precision window for new ones.",
    claims=(
        Claim("cache saved by shrinking channels", 80.0, "%", "memory", "abstract", lambda: reduction(SHRINK),
              identity=True, why="a fifth of the channels is an input"),
        Claim("cache saved with 4-bit features", 95.0, "%", "memory", "abstract",
              lambda: reduction(SHRINK, techniques.quantize_kv(bits=4, group=32)), identity=True,
              why="a fifth of the channels in a quarter of the bits; published without scales and zeros, which are "
                  "counted here"),
    ),
    assumptions=(
        "LongChat-7B, window of 32 tokens, 4 bits in groups of 32 (README and demo of the authors' repository)",
        "16384 tokens, within the paper's range of contexts; half a point less saved at 4096",
        "an fp16 scale and zero per group (their storage is not stated)",
    ),
)  # fmt: skip
