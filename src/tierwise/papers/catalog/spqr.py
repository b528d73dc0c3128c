"""SpQR: weights in 3 or 4 bits in groups of 16 whose scales are quantized again, outliers kept apart.

The few weights whose error matters most are stored sparsely in 16 bits, so that the rest may be coarse.
"""

from collections.abc import Callable, Iterator
from functools import cache

from tierwise import Batch, Scenario, evaluate, techniques
from tierwise.papers.base import contrast, scenario
from tierwise.papers.types import NEEDS_FEATURE, Claim, Paper

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


@cache
def rate(model: str, prompt: float, compressed: bool = False) -> float:
    """Tokens a second of one sequence on an A100, in the eager framework the authors ran."""
    traffic = Batch(prompt=prompt, output=100, batch=1)
    plain = scenario(model, "a100-sxm-80gb", traffic, under=[techniques.eager("transformers")])
    return 1.0 / float(evaluate(plain.apply(NEAR_LOSSLESS) if compressed else plain).tpot)


def gain() -> float:
    """Percent more tokens a second than 16-bit, on a GPU that holds both."""
    return 100.0 * (rate("llama-33b", FRESH, contrast(False, True)) / rate("llama-33b", FRESH) - 1.0)


FRESH, PREFIX = 1.0, 1024.0  # tokens before the 100 that are generated
# Table 4, tokens a second: 16-bit, SpQR with PyTorch's sparse product, SpQR with the authors' (None: does not fit).
TABLE: dict[tuple[str, float], tuple[float | None, float | None, float]] = {
    ("llama-7b", FRESH): (47, 30, 57), ("llama-13b", FRESH): (37, 24, 44), ("llama-33b", FRESH): (19, 8.8, 22),
    ("llama-65b", FRESH): (None, None, 12),
    ("llama-7b", PREFIX): (46, 27, 55), ("llama-13b", PREFIX): (31, 21, 37), ("llama-33b", PREFIX): (17, 6.5, 22),
    ("llama-65b", PREFIX): (None, None, 11),
}  # fmt: skip
_OWN = (
    "The engine's host starts as many kernels for compressed weights as for 16-bit ones and bounds both; the authors' "
    "runs are faster than their 16-bit ones of the same framework by what their kernel saves, so that theirs was not "
    "bound by launches alone. At 65B the engine has no rate for a kernel bound by instructions."
)


def table() -> Iterator[Claim]:
    for (model, prompt), (plain, pytorch, own) in TABLE.items():
        what = f"{model}, " + ("from scratch" if prompt == FRESH else "after 1024 tokens")
        if plain is not None:
            yield Claim(f"{what}, 16 bits", plain, "tokens/s", "absolute", "table 4",
                        lambda m=model, p=prompt: rate(m, p), extra=True)  # type: ignore[misc]
        if pytorch is not None:
            yield Claim(f"{what}, SpQR in PyTorch", pytorch, "tokens/s", "absolute", "table 4", extra=True,
                        missing=NEEDS_FEATURE, why="a general sparse product, and dense weights expanded before theirs")
        yield Claim(f"{what}, SpQR", own, "tokens/s", "absolute", "table 4",
                    lambda m=model, p=prompt: rate(m, p, True), extra=True, why=_OWN)  # type: ignore[misc]


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
              why="30B from scratch in table 4, 22 over 19: the reference is 16-bit on an A100, as a 24 GB card does "
              "not hold it. The engine's host bounds the compressed side. " + _OWN),
        Claim("compression of the weights over 16-bit", 4.0, "x", "at-least", "abstract", linear_compression,
              metric="memory",
              why="3-bit configuration, of the linear weights; the near-lossless 4-bit one gives 3.4x"),
        *table(),
    ),
    assumptions=(
        "groups of 16, 3-bit scales and zeros, second-level groups of 16 (README of the authors' repository)",
        "an outlier takes 16 bits and a 16-bit column (section on storage as recalled, not re-checked)",
        "about 1 % outliers for the 3-bit configuration (introduction); 0.2 % for the near-lossless 4-bit one, "
        "which its published average of 4.63 to 4.71 bits implies (as recalled, not re-checked)",
        "embeddings and output head stay 16-bit",
        "speed: one sequence on one A100 (read as the 80 GB card, which holds 30B in 16 bits), 100 tokens from scratch "
        "and after 1024 (section 5, inference time); transformers 4.28, eager (README of the authors' repository)",
    ),
)  # fmt: skip
