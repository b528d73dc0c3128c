"""QMoE: a trillion-parameter mixture of experts below one bit a parameter.

Experts are quantized to ternary weights, most of them zero, and runs of them are coded by a fixed dictionary
of 16-bit words that kernels decode on the fly.
"""

from tierwise import Batch, Plan, Scenario, evaluate, techniques
from tierwise.papers.base import scenario
from tierwise.papers.types import NEEDS_FEATURE, Claim, Paper

# 88.5 % zeros and the dictionary's size are stated; the size of the code follows from them.
COMPRESS = techniques.dictionary_experts(zeros=0.885, codewords=2**16, longest=28, row_bits=64.0)


def served(machine: str, devices: float) -> Scenario:
    plan = Plan(tp=devices, ep=devices, dp=1.0)
    return scenario("switch-c-2048", machine, Batch(prompt=128, output=128, batch=1), plan)


PLAIN = served("8xrtx-3090", 1.0)


def size(compressed: bool) -> float:
    """Bytes of all weights, as if on one device."""
    return float(evaluate(PLAIN.apply(COMPRESS) if compressed else PLAIN).memory.weight_bytes)


def bits() -> float:
    return 8.0 * size(True) / float(PLAIN.resolved().model.parameters)


def fullest(machine: str, devices: float) -> float:
    """Memory of the fullest GPU over what it has."""
    memory = evaluate(served(machine, devices).apply(COMPRESS)).memory
    return float(memory.peak / memory.capacity)


PAPER = Paper(
    slug="qmoe",
    title="QMoE: Practical Sub-1-Bit Compression of Trillion-Parameter Models",
    source="arXiv:2310.16795",
    mechanism="Ternary experts, coded by a dictionary of likely runs, take less than a bit a weight.",
    claims=(
        Claim("SwitchTransformer-c2048 in bf16", 3.2, "TB", "memory", "abstract", lambda: size(False) / 1e12),
        Claim("compressed", 160.0, "GB", "at-most", "abstract", lambda: size(True) / 1e9,
              metric="memory"),
        Claim("compression", 20.0, "x", "memory", "abstract", lambda: size(False) / size(True)),
        Claim("bits a parameter", 0.8, "bits", "count", "abstract", bits,
              why="coding of independent ternary weights; real rows differ in their zeros, which costs a little"),
        Claim("fits 4x A6000: fullest GPU over its memory", 1.0, "", "at-most", "abstract",
              lambda: fullest("4xrtx-a6000", 4.0), extra=True, metric="memory"),
        Claim("fits 8x 3090: fullest GPU over its memory", 1.0, "", "at-most", "abstract",
              lambda: fullest("8xrtx-3090", 8.0), extra=True, metric="memory"),
        Claim("time to compress on one GPU", 1.0, "day", "at-most", "abstract", missing=NEEDS_FEATURE, metric="time",
              why="the quantizer's solver (a factorisation and column updates for each expert) is no op of the engine"),
        Claim("runtime over ideal uncompressed inference", 5.0, "%", "at-most", "abstract", missing=NEEDS_FEATURE,
              metric="time",
              why="decoding is bound by instructions, not bytes: the engine has no rate for a dictionary decoder "
              "and would predict a speedup from the smaller weights"),
    ),
    assumptions=(
        "2080 x 6144 experts in every layer, 2048 of them, top-1 (test.py and sub1.py of the authors' repository)",
        "88.5 % zeros, 2^16 words of 16 bits, at most 14 pairs each, 64 bits a row (test.py)",
        "only experts are compressed, the rest stays bf16 (sub1.py)",
        "experts spread evenly over the GPUs; attention is split too (the authors keep it on one GPU)",
    ),
)  # fmt: skip
