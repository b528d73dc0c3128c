"""COMET (arXiv:2410.12168): weights, most activations and the cache in 4 bits, multiplied by the GPU's 4-bit integer
engine; blocks of 128 channels have a scale of their own, applied while the products are summed."""

from __future__ import annotations

from functools import cache

import tierwise as tw
from tierwise.core.numerics import Format
from tierwise.papers.base import contrast, scenario
from tierwise.papers.types import NEEDS_SETUP, Claim, Paper
from tierwise.techniques import quantize_activations, quantize_kv, quantize_weights

BLOCK = 128
FOUR = Format("int4-g128, multiplied as int4", 4.0, 16.0 / BLOCK, "int4")
COMET = (quantize_weights(FOUR), quantize_activations(FOUR), quantize_kv(bits=4, group=BLOCK))
# What TensorRT-LLM offered on this GPU: 4-bit weights alone, or 8 bits on both sides.
THEIRS = ((quantize_weights("int4-g128"),), (quantize_weights("int8"), quantize_activations("int8")))
MODELS = ("llama-3-8b", "llama-2-13b", "llama-3-70b")


@cache
def rate(model: str, which: int) -> float:
    """Tokens a second at the largest batch: of COMET (-1), or of one of TensorRT-LLM's formats."""
    shared = tw.Batch(prompt=1024, output=512, batch="max")
    if which >= 0:
        theirs = scenario(model, "1xa100-sxm-80gb", shared, engine="trtllm", under=THEIRS[which])
        return float(tw.evaluate(theirs).throughput)
    return float(tw.evaluate(scenario(model, "1xa100-sxm-80gb", shared, engine="trtllm").apply(*COMET)).throughput)


def bits() -> float:
    """Mean bits of weights, activations and cache, scales aside."""
    plan = scenario("llama-3-8b", "1xa100-sxm-80gb").apply(*COMET).resolved().plan
    stored = (plan.weights, plan.activations, plan.kv.key)
    return sum(float(f.bits) for f in stored if f is not None) / len(stored)


def gain() -> float:
    """Over the faster of TensorRT-LLM's formats, mean of the models."""
    theirs = {m: max(rate(m, 0), rate(m, 1)) for m in MODELS}
    return sum(contrast(theirs[m], rate(m, -1)) / theirs[m] for m in MODELS) / len(MODELS)


PAPER = Paper(
    slug="comet-w4a4kv4",
    title="COMET: Towards Practical W4A4KV4 LLMs Serving",
    source="arXiv:2410.12168",
    mechanism="4-bit products at four times the 16-bit rate, and a cache of a quarter of the bytes.",
    claims=(
        Claim("bits of weights, activations and cache", 4.0, "bits", "count", "abstract", bits, identity=True,
              why="the method's setting, read back"),
        Claim("throughput over TensorRT-LLM", 2.02, "x", "ratio", "abstract", gain, blind=True,
              why="the faster of its W4A16 and W8A8 for each of three models; larger batches beside a smaller cache "
                  "are most of it"),
        Claim("kernel over cuBLAS", 2.88, "x", "ratio", "abstract", missing=NEEDS_SETUP,
              why="The batches averaged over are not known: the engine has 4.5x where bytes bind (up to 64 rows) and "
                  "2.7 to 3.5x from 256 rows on, where scaling the sums of every block outweighs the 4-bit products."),
    ),
    assumptions=(
        "One A100 80GB SXM (abstract), blocks of 128 channels (public summaries); all activations in 4 bits, where a "
        "share, not known, is in 8.",
        "1024 tokens in, 512 out, largest batch, and TensorRT-LLM's formats: as recalled, not re-checked.",
    ),
)  # fmt: skip
