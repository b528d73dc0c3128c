"""Vocabulary Parallelism (arXiv:2411.05288): embedding and output head divided over all stages of a pipeline, where
alone they make its ends the slowest and the fullest."""

from __future__ import annotations

from functools import cache

import tierwise.papers.catalog.deepspeed_inference as dense
from tierwise.papers.base import Layout, TrainStep, trained, training_rate
from tierwise.papers.types import NEEDS_FEATURE, Claim, Paper

LAYERS, WIDTH, HEADS, STAGES, MICRO_BATCHES = 32, 3072.0, 24.0, 8.0, 128.0
PEAK, GiB = 312e12, 2.0**30
# Of the ordinary placement: tokens of a sequence and vocabulary in thousands -> per cent of the peak, memory.
TABLE = {
    (2048.0, 32.0): (47.52, 16.01), (2048.0, 64.0): (40.82, 17.74), (2048.0, 128.0): (33.70, 21.00),
    (2048.0, 256.0): (17.29, 35.56), (4096.0, 32.0): (52.82, 22.23), (4096.0, 64.0): (45.78, 23.98),
    (4096.0, 128.0): (37.13, 27.22), (4096.0, 256.0): (27.63, 33.86),
}  # fmt: skip


@cache
def step(seq: float, vocab: float) -> TrainStep:
    model = dense.gpt("4B", LAYERS, WIDTH, HEADS, vocab=1e3 * vocab)
    return trained(model, "8xa100-sxm-80gb", Layout(pp=STAGES, global_batch=MICRO_BATCHES, seq=seq), "megatron")


def utilization(seq: float, vocab: float) -> float:
    """Per cent of the peak, by the count in the authors' logs: all of attention's scores, three times a forward pass."""
    inner = 1.0 + seq / (6.0 * WIDTH) + 1e3 * vocab / (12.0 * LAYERS * WIDTH)
    flops = 72.0 * MICRO_BATCHES * seq * LAYERS * WIDTH**2 * inner
    return 100.0 * float(training_rate(step(seq, vocab), flops)) / PEAK


def peak(seq: float, vocab: float) -> float:
    return float(step(seq, vocab).memory.peak) / GiB


_MFU = (
    "The output head with its loss is too fast: a forward pass of a 256,000-token head takes some 26 ms in the authors' "
    "log (36.8 of the last stage less 10.5 of its four layers), 122 TFLOP/s, where the product alone reaches 200; its "
    "softmax over fp32 logits runs in several unfused kernels, of which the engine has one."
)
_SPILLED = "At 256k and 2,048 tokens the authors' run takes more memory than at 4,096, and half the rate: not explained."


def claims() -> list[Claim]:
    out = []
    for (seq, vocab), (mfu, memory) in TABLE.items():
        what, odd = f"{seq:.0f} tokens, vocabulary {vocab:.0f}k", (seq, vocab) == (2048.0, 256.0)
        out += [
            Claim(f"{what}, of the peak", mfu, "%", "absolute", "artifact, full experiment",
                  lambda s=seq, v=vocab: utilization(s, v), extra=True,
                  why=_SPILLED + " " + _MFU if odd else _MFU),  # type: ignore[misc]
            Claim(f"{what}, memory", memory, "GiB", "memory", "artifact, full experiment",
                  lambda s=seq, v=vocab: peak(s, v), extra=True, why=_SPILLED if odd else ""),  # type: ignore[misc]
        ]  # fmt: skip
    return out


PAPER = Paper(
    slug="vocabulary-parallelism",
    title="Balancing Pipeline Parallelism with Vocabulary Parallelism",
    source="arXiv:2411.05288",
    mechanism="Every stage computes a part of the vocabulary's layers, in passes of their own between the others.",
    claims=(
        Claim("throughput over the ordinary placement, least", 5.0, "%", "ratio", "abstract", missing=NEEDS_FEATURE,
              why="stages that share the vocabulary's layers; only the ordinary placement can be laid out"),
        Claim("throughput over the ordinary placement, most", 51.0, "%", "up-to", "abstract", missing=NEEDS_FEATURE,
              why="as above"),
        *claims(),
    ),
    assumptions=(
        "About 4 billion parameters: 32 layers of 3,072, 24 heads; 8 stages on 8 A100 (80 GB), 128 micro-batches of one "
        "sequence, 1F1B (sail-sg/VocabularyParallelism, artifact/run_exp.md); every point of its table for the method "
        "'baseline', the ordinary placement. The others need stages of unlike depth or a divided vocabulary.",
        "Vocabularies in thousands, 256,000 at most (artifact/test_one_host.csv). Memory is in GiB, as PyTorch's peak is.",
        "Megatron-LM of 2024 (PyTorch container 24.03), fused attention.",
    ),
)  # fmt: skip
