"""XQuant: cache the quantized input of each layer, and compute keys and values from it again at every step.

One tensor is stored where there were two, and it bears fewer bits; XQuant-CL stores differences between layers,
which bear fewer still.
"""

from collections.abc import Callable

from tierwise import Batch, Scenario, compare, techniques
from tierwise.core.numerics import Format
from tierwise.papers.base import scenario
from tierwise.papers.types import NEEDS_SETUP, Claim, Paper
from tierwise.techniques.quantization import quantize_kv

BASE = scenario("llama-2-7b", "a100-sxm-80gb", Batch(prompt=3840, output=256, batch=1))
LAYERS = float(BASE.resolved().model.stack("decoder").depth)


def saving(*quantize: Callable[[Scenario], Scenario]) -> float:
    """Bytes of a sequence's cache, fp16 keys and values over what is kept instead."""
    return 1.0 / float(compare(BASE, BASE.apply(*quantize, techniques.rematerialize_kv())).memory.kv)


def across_layers(bits: float) -> Callable[[Scenario], Scenario]:
    """Differences in ``bits``, the first three layers in four: the format of an average layer, groups of 128."""
    mean = (3.0 * 4.0 + (LAYERS - 3.0) * bits) / LAYERS
    return quantize_kv(format=Format(f"{bits:g}-bit differences", mean, 32.0 / 128.0, ""))


PAPER = Paper(
    slug="xquant",
    title="XQuant: Breaking the Memory Wall for LLM Inference with KV Cache Rematerialization",
    source="arXiv:2508.10395",
    mechanism="The layer's input is cached in few bits in place of keys and values, which are recomputed.",
    claims=(
        Claim("same precision: cache of keys and values over cache of inputs", 2.0, "x", "count", "abstract", saving,
              metric="memory",
              identity=True,
              why="multi-head attention: keys and values together are twice as wide as the input"),
        Claim("XQuant", 7.7, "x", "memory", "abstract", lambda: saving(quantize_kv(bits=4, group=128)),
              identity=True, why="four bits, an input, and half as many numbers"),
        Claim("XQuant-CL, 0.01 perplexity", 10.0, "x", "memory", "abstract", lambda: saving(across_layers(3)),
              identity=True, why="three bits, the first layers four: inputs"),
        Claim("XQuant-CL, 0.1 perplexity", 12.5, "x", "memory", "abstract", missing=NEEDS_SETUP,
              why="the bits behind it are not stated; two, the first layers four, would give 13.1x"),
    ),
    assumptions=(
        "Llama-2-7B, one of the paper's multi-head models; under grouped queries latents of the input are cached",
        "asymmetric groups of 128, first three layers in 4 bits under XQuant-CL: as recalled, and as the public "
        "specification of an independent llama.cpp port has it; fp16 scale and zero (their storage is not stated)",
        "bit widths 4 and 3 behind the first two factors, which the same specification names",
        "XQuant-CL's accumulator is one layer's activation, not counted as cache",
    ),
)  # fmt: skip
