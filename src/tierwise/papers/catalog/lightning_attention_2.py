"""Lightning Attention-2 (arXiv:2401.04658): the Triton kernel of causal linear attention whose tiles keep the running
state on chip, so that neither cumulative sums nor score matrices reach memory."""

from __future__ import annotations

import numpy as np

from tierwise.models.types import Block
from tierwise.papers.base import contrast
from tierwise.papers.catalog._lightning import core, linear, softmax
from tierwise.papers.types import Claim, Paper

TABLE = "benchmark table of the authors' repository: forward, batch 4, 32 heads of 128, bf16"


def mebibytes(block: Block, length: float) -> float:
    """Operands of the kernel in memory, MiB."""
    op = core(block, length).op
    return float(op.bytes_of("act")) / 2**20


def exponent(block: Block, lengths: tuple[float, ...]) -> float:
    """Growth of the kernel's time with length."""
    times = [float(core(block, n).cost.time) for n in lengths]
    return float(np.polyfit(np.log(lengths), np.log(times), 1)[0])


def _ratio() -> float:
    return float(core(softmax(), 32768).cost.time / core(contrast(softmax(), linear()), 32768).cost.time)


LONG = (2048.0, 4096.0, 8192.0, 16384.0, 32768.0)

PAPER = Paper(
    slug="lightning-attention-2",
    title="Lightning Attention-2: A Free Lunch for Handling Unlimited Sequence Lengths in Large Language Models",
    source="arXiv:2401.04658",
    mechanism="Linear attention in tiles: exact products inside, a state carried between.",
    claims=(
        Claim("kernel memory at 512 tokens, lightning", 64.0, "MiB", "count", TABLE,
              lambda: mebibytes(linear(), 512), extra=True),
        Claim("kernel memory at 32768 tokens, lightning", 4096.0, "MiB", "count", TABLE,
              lambda: mebibytes(linear(), 32768), extra=True),
        Claim("kernel memory at 32768 tokens, FlashAttention-2", 4112.0, "MiB", "count", TABLE,
              lambda: mebibytes(softmax(), 32768), extra=True,
              why="The 16 MiB missing are the softmax's log-sums, one fp32 number a query, for the backward pass."),
        Claim("time over length, lightning, 2K to 32K", 0.990, "exponent", "exponent", TABLE,
              lambda: exponent(linear(), LONG), extra=True, metric="time", blind=True,
              why="a linear op, priced linearly"),
        Claim("time over length, FlashAttention-2, 4K to 32K", 1.965, "exponent", "exponent", TABLE,
              lambda: exponent(softmax(), LONG[1:]), extra=True, metric="time"),
        Claim("forward kernel over FlashAttention-2 at 32768 tokens", 9.22, "x", "ratio",
              TABLE + " (162.90 and 17.66 ms)", _ratio, extra=True,
              why="FlashAttention-2 takes 190 ms here, 163 in the table; the lightning kernel takes 17.7 ms where its "
                  "operands need 2.4. "
                  "The published kernel deals 32 value channels to a program: four of them compute each head's scores "
                  "anew, without leaving out what is masked, in tf32, and read queries and keys four times, 6 ms at "
                  "the roofline. The rest: 512 dependent blocks a program, no load ahead of its use."),
    ),
    assumptions=(
        "Blocks of 64 tokens, state of 128 × 128 on chip (published kernel).",
        "The GPU is not named; an A100, since FlashAttention-2's 216 TFLOP/s of the table is its usual rate there.",
    ),
)  # fmt: skip
