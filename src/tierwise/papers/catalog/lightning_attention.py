"""Lightning Attention (arXiv:2405.17381): causal linear attention cut into blocks, exact products inside a block and a
running key-value state between blocks, so that time per token does not depend on the sequence's length."""

from __future__ import annotations

import numpy as np

from tierwise.models.blocks.mlp import MLP
from tierwise.models.types import Block
from tierwise.papers.catalog._lightning import HEADS, WIDTH, alone, forward, linear
from tierwise.papers.types import Claim, Paper

LENGTHS = 2.0 ** np.arange(10, 18)  # 1K to 128K, figure 1
TOKENS = LENGTHS[-1]


def exponent(block: Block) -> float:
    """Growth of the time of a fixed number of tokens with the length of the sequences they come in."""
    model = alone(block, 4, MLP(HEADS * WIDTH, 4.0 * HEADS * WIDTH))
    times = [float(forward(model, n, TOKENS / n).time) for n in LENGTHS]
    return float(np.polyfit(np.log(LENGTHS), np.log(times), 1)[0])


PAPER = Paper(
    slug="lightning-attention",
    title="Various Lengths, Constant Speed: Efficient Language Modeling with Lightning Attention",
    source="arXiv:2405.17381",
    mechanism="Chunked causal linear attention with a running state on chip.",
    claims=(
        Claim("time of a fixed number of tokens over sequence length, lightning", 0.0, "exponent", "exponent",
              "abstract: constant speed at various lengths under fixed memory", lambda: exponent(linear()),
              extra=True, metric="time",
              identity=True, why="the op is linear by definition; no number is published"),
    ),
    assumptions=(
        "The abstract states no number; constant speed is read as exponent 0 at a fixed number of tokens a batch. The "
        "published speeds are of training, backward pass included.",
        "Forward passes only (training adds backward passes of the same growth); widths of the kernel benchmark: 32 "
        "heads of 128, blocks of 64 (published kernel). The exponent does not depend on them.",
        "1K to 128K tokens as in figure 1.",
    ),
)  # fmt: skip
