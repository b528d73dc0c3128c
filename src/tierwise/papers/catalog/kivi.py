"""KIVI: keys and values in two bits, with a short window of recent tokens in full.

Keys are quantized per channel over groups of tokens, values per token over groups of channels; the memory
saved becomes batch, and each step reads less cache.
"""

from tierwise import Batch, Scenario, evaluate, techniques
from tierwise.papers.base import scenario
from tierwise.papers.types import Claim, Paper

# The repository measures eager Hugging Face models, with and without its attention: scores are written out, kernels
# launched singly, and both caches concatenated with what is new.
BASE = scenario(
    "llama-2-7b", "a100-sxm-80gb", Batch(prompt=161, output=338, batch="max"),
    under=[techniques.unfuse_attention(), techniques.eager(), techniques.concatenate_cache()],
)  # fmt: skip


WINDOWS = (32, 128)


def kivi(residual: float) -> Scenario:
    return BASE.apply(techniques.quantize_kv(bits=2, group=32, residual=residual))


def peak_memory() -> float:
    """Both at the largest batch the plain cache allows."""
    batch = evaluate(BASE).batch
    before, after = (evaluate(s.with_traffic(batch=batch)).memory.peak for s in (BASE, kivi(32)))
    return float(before / after)


def larger_batch() -> float:
    return float(evaluate(kivi(32)).batch / evaluate(BASE).batch)


def throughput(residual: float) -> float:
    return float(evaluate(kivi(residual)).throughput / evaluate(BASE).throughput)


def payload_bits() -> float:
    key = kivi(32).resolved().plan.kv.key
    assert key is not None
    return float(key.bits)


_COPY = (
    "at the larger batch the linear layers become compute-bound, so the gain in batch does not carry over whole; "
    "without the copies of a concatenated cache 1.8x and 1.4x"
)

PAPER = Paper(
    slug="kivi",
    title="KIVI: A Tuning-Free Asymmetric 2bit Quantization for KV Cache",
    source="arXiv:2402.02750",
    mechanism="Two-bit keys (per channel) and values (per token) make a cache that is smaller and cheaper to read.",
    claims=(
        Claim("payload of a cached element", 2.0, "bits", "count", "abstract", payload_bits,
              identity=True, why="an input; with fp16 scale and zero per 32 elements 3.0 bits are stored"),
        Claim("peak memory with weights, plain over KIVI", 2.6, "x", "memory", "abstract", peak_memory),
        Claim("largest batch, KIVI over plain", 4.0, "x", "up-to", "abstract", larger_batch, metric="capacity"),
        Claim("throughput at the largest batch, KIVI over plain, lowest", 2.35, "x", "ratio", "abstract (2.35 to 3.47)",
              lambda: min(throughput(w) for w in WINDOWS), blind=True, why=_COPY),
        Claim("throughput at the largest batch, KIVI over plain, highest", 3.47, "x", "ratio",
              "abstract (2.35 to 3.47)", lambda: max(throughput(w) for w in WINDOWS), why=_COPY),
    ),
    assumptions=(
        "Llama-2-7B, fp16, one A100 80GB (section 4, efficiency); SXM form factor assumed",
        "161 prompt and 338 generated tokens, groups of 32 (mem_spd_test.py of the authors' repository)",
        "windows of 32 and 128 tokens (section 4, as recalled, not re-checked), over which the range is read; its ends "
        "are two claims, since a band around both could hardly be missed",
        "a group has an fp16 scale and an fp16 zero, the activation dtype of the authors' code",
        "eager models (the same script); packed values are concatenated every step, packed keys only when a window is "
        "full (llama_kivi.py): here both every step, which counts against KIVI",
        "the window holds its full number of tokens for keys too (the code lets it fluctuate below that)",
        "equal requests in one static batch, as in the authors' script",
    ),
)  # fmt: skip
