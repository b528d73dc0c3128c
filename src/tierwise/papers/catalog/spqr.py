"""SpQR: weights in 3 or 4 bits in groups of 16 whose scales are quantized again, outliers kept apart.

The few weights whose error matters most are stored sparsely in 16 bits, so that the rest may be coarse.
"""

from collections.abc import Callable

from tierwise import Batch, Scenario, evaluate, techniques
from tierwise.papers.base import scenario
from tierwise.papers.types import Claim, Paper

NEAR_LOSSLESS = techniques.quantize_with_outliers(4, outliers=0.002)
SMALL = techniques.quantize_with_outliers(3, outliers=0.01)
GiB = 2.0**30


def base(machine: str, prompt: float = 1792.0, output: float = 256.0) -> Scenario:
    return scenario("llama-33b", machine, Batch(prompt=prompt, output=output, batch=1))


def payload(technique: Callable[[Scenario], Scenario]) -> float:
    form = base("rtx-4090").apply(technique).resolved().plan.weights
    assert form is not None
    return float(form.bits)


def linear_compression() -> float:
    """16-bit over SpQR, for the weights it compresses."""
    before, after = (evaluate(s).memory.weights for s in (base("rtx-4090"), base("rtx-4090").apply(SMALL)))
    return float((before["attn"] + before["mlp"]) / (after["attn"] + after["mlp"]))


def peak() -> float:
    return float(evaluate(base("rtx-4090").apply(NEAR_LOSSLESS)).memory.peak / GiB)


def gain() -> float:
    """Percent more tokens a second than 16-bit, on a GPU that holds both."""
    plain = base("a100-sxm-80gb")
    return 100.0 * float(evaluate(plain).tpot / evaluate(plain.apply(NEAR_LOSSLESS)).tpot - 1.0)


PAPER = Paper(
    slug="spqr",
    title="SpQR: A Sparse-Quantized Representation for Near-Lossless LLM Weight Compression",
    source="arXiv:2306.03078",
    mechanism="Small groups with doubly quantized scales, plus a sparse 16-bit matrix of outliers.",
    claims=(
        Claim("bits of a weight that is no outlier, smaller configuration", (3.0, 4.0), "bits", "count", "abstract",
              lambda: payload(SMALL), identity=True, why="an input, read back from the format"),
        Claim("LLaMA-33B at 2048 tokens on a 24 GB GPU", 24.0, "GiB", "at-most", "abstract", peak, metric="memory",
              why="weights, cache, activations and the runtime's reserve together"),
        Claim("speedup of the 33B model over 16-bit", 15.0, "%", "ratio", "abstract", gain,
              why="bytes alone would give far more: the unstructured outliers and two-level scales are bound by "
              "instructions in the authors' kernel, for which the engine has no rate; the reference is 16-bit on "
              "an A100 80GB, as a 24 GB card does not hold it"),
        Claim("compression of the weights over 16-bit", 4.0, "x", "at-least", "abstract", linear_compression,
              metric="memory",
              why="3-bit configuration, of the linear weights; the near-lossless 4-bit one gives 3.4x"),
    ),
    assumptions=(
        "groups of 16, 3-bit scales and zeros, second-level groups of 16 (README of the authors' repository)",
        "an outlier takes 16 bits and a 16-bit column (section on storage as recalled, not re-checked)",
        "about 1 % outliers for the 3-bit configuration (introduction); 0.2 % for the near-lossless 4-bit one, "
        "which its published average of 4.63 to 4.71 bits implies (as recalled, not re-checked)",
        "embeddings and output head stay 16-bit",
    ),
)  # fmt: skip
