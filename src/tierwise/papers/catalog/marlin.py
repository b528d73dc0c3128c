"""MARLIN: a matmul of 16-bit activations and 4-bit weights that stays bound by memory up to a moderate batch.

Weights cross the memory bus in a quarter of the bytes; arithmetic stays 16-bit, so the gain lasts until the
tensor cores are busy.
"""

import numpy as np

from tierwise import Batch, evaluate, techniques
from tierwise.core.num import Num, num
from tierwise.models.blocks.common import Linear, Projection
from tierwise.models.types import Layer, Model, Stack
from tierwise.papers.base import scenario
from tierwise.papers.types import NEEDS_SETUP, Claim, Paper

FORMAT = techniques.quantize_weights("int4-g128-sym")
# The authors' "ideal" matrix: as many columns and rows as fill all 72 units of the A10 evenly.
ROWS, COLUMNS = 4 * 256 * 72.0, 256 * 72.0
_LINEAR = Layer("linear", (Projection(Linear("w", ROWS, COLUMNS, role="mlp")),))
LAYER = Model("one linear layer", "linear", ROWS, 0.0, (Stack("decoder", (_LINEAR,), (0,)),))


BATCHES = np.asarray(2.0 ** np.arange(8), dtype=np.float64)


def layer_speedup(batch: Num) -> Num:
    base = scenario(LAYER, "a10", Batch(prompt=1, output=2, batch=num(batch)))
    return evaluate(base).tpot / evaluate(base.apply(FORMAT)).tpot


def near_maximum() -> float:
    """The largest batch whose speedup is nine tenths of what the bits allow; 0 when none is."""
    good = BATCHES[np.asarray(layer_speedup(BATCHES)) >= 0.9 * 16.0 / 4.125]
    return float(np.max(good, initial=0.0))


def model_speedup(batch: Num) -> Num:
    base = scenario("llama-2-7b", "a10", Batch(prompt=64, output=64, batch=num(batch)), engine="vllm")
    return evaluate(base).time / evaluate(base.apply(FORMAT)).time


PAPER = Paper(
    slug="marlin",
    title="MARLIN: Mixed-Precision Auto-Regressive Parallel Inference on Large Language Models",
    source="arXiv:2408.11743",
    mechanism="4-bit weights are expanded on the fly in a pipeline that keeps the memory bus saturated.",
    claims=(
        Claim("one linear layer, 16-bit over 4-bit time, best batch up to 32", 4.0, "x", "up-to", "abstract",
              lambda: float(np.max(layer_speedup(BATCHES[:6])))),
        Claim("largest batch within a tenth of the ratio of bits", 16.0, "", "at-least",
              "abstract (batch 16 to 32, close to the maximum; the lower end)", near_maximum, metric="time"),
        Claim("largest batch of a significant gain", (64.0, 128.0), "", "up-to", "abstract", missing=NEEDS_SETUP,
              why="How much is significant has no number; 1.9x at a batch of 128 here."),
        Claim("Llama-2-7B end to end, best batch", 2.8, "x", "up-to", "abstract",
              lambda: float(np.max(model_speedup(BATCHES)))),
    ),
    assumptions=(
        "A10, groups of 128 with an fp16 scale and no zero: 4.125 bits (README and bench.py of the repository)",
        "matrix of 73728 x 18432, batches 1 to 128 in powers of two (bench.py)",
        "end to end: Llama-2-7B on the A10, 64 prompt and 64 generated tokens, batch 1 to 128: the evaluation as "
        "recalled, not re-checked; which model, GPU and batch gave 2.8 is not known",
        "embeddings and output head stay 16-bit",
    ),
)  # fmt: skip
