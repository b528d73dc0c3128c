"""Vocabulary Parallelism (arXiv:2411.05288): embedding and output head divided over all stages of a pipeline, where
alone they make its ends the slowest and the fullest."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from tierwise.papers.base import Layout, TrainStep, trained, training_rate
from tierwise.papers.catalog._gpt import gpt
from tierwise.papers.types import NEEDS_FEATURE, Claim, Paper

MICRO_BATCHES, PEAK, GiB = 128.0, 312e12, 2.0**30
# Table 1: stages, one a GPU -> layers, width, heads.
MODELS = {8: (32, 3072.0, 24.0), 16: (48, 4096.0, 32.0), 32: (64, 5120.0, 40.0)}
VOCABULARIES = (32.0, 64.0, 128.0, 256.0)  # thousands
# Table 5, the ordinary placement: stages and tokens of a sequence -> per cent of the peak and GiB, by vocabulary.
TABLE = {
    (8, 2048.0): ((46.16, 40.48, 33.11, 25.23), (14.86, 16.32, 19.25, 25.64)),
    (8, 4096.0): ((47.05, 41.87, 35.00, 26.75), (21.39, 22.85, 25.78, 31.64)),
    (16, 2048.0): ((45.66, 40.09, 32.44, 24.21), (24.03, 25.98, 29.92, 38.71)),
    (16, 4096.0): ((47.56, 41.21, 33.88, 25.33), (36.99, 38.94, 42.85, 50.90)),
    (32, 2048.0): ((42.81, 37.28, 28.97, 20.86), (33.45, 35.89, 41.17, 52.16)),
    (32, 4096.0): ((43.68, 38.11, 30.05, 21.63), (54.97, 57.41, 62.29, 73.05)),
}


@cache
def step(stages: int, seq: float, vocab: float) -> TrainStep:
    layers, width, heads = MODELS[stages]
    model = gpt(f"GPT of {layers} layers", layers, width, heads, vocab=1e3 * vocab)
    layout = Layout(pp=float(stages), global_batch=MICRO_BATCHES, seq=seq)
    return trained(model, f"{stages}xa100-sxm-80gb", layout, "megatron")


def utilization(stages: int, seq: float, vocab: float) -> float:
    """Per cent of the peak, by the authors' count (table 4): all of attention's scores, three times a forward pass."""
    layers, width, _ = MODELS[stages]
    flops = MICRO_BATCHES * seq * width * (layers * (72.0 * width + 12.0 * seq) + 6.0 * 1e3 * vocab)
    return 100.0 * float(training_rate(step(stages, seq, vocab), flops)) / PEAK


def peak(stages: int, seq: float, vocab: float) -> float:
    return float(step(stages, seq, vocab).memory.peak) / GiB


_MFU = (
    "Layers and head are both too fast. The authors' logs (artifact/test_one_host.csv, 8 stages) have a layer at 195 "
    "TFLOP/s forward and the head of 256,000 with its loss at 122, whose softmax over fp32 logits runs in several "
    "kernels where the engine has one; the table is slower than those logs by another tenth."
)


def claims() -> Iterator[Claim]:
    for (stages, seq), (rates, memories) in TABLE.items():
        for vocab, rate, memory in zip(VOCABULARIES, rates, memories, strict=True):
            what = f"{stages} stages, {seq:.0f} tokens, vocabulary {vocab:.0f}k"
            at = (stages, seq, vocab)
            yield Claim(f"{what}, of the peak", rate, "%", "absolute", "table 5",
                        lambda at=at: utilization(*at), extra=True, why=_MFU)  # type: ignore[misc]
            yield Claim(f"{what}, memory", memory, "GiB", "memory", "table 5",
                        lambda at=at: peak(*at), extra=True)  # type: ignore[misc]


PAPER = Paper(
    slug="vocabulary-parallelism",
    title="Balancing Pipeline Parallelism with Vocabulary Parallelism",
    source="arXiv:2411.05288",
    mechanism="Every stage computes a part of the vocabulary's layers, in passes of their own between the others.",
    claims=(
        Claim("throughput over the ordinary placements, least", 5.0, "%", "ratio", "abstract", missing=NEEDS_FEATURE,
              why="stages that share the vocabulary's layers; only the ordinary placement can be laid out"),
        Claim("throughput over the ordinary placements, most", 51.0, "%", "up-to", "abstract", missing=NEEDS_FEATURE,
              why="as above"),
        *claims(),
    ),
    assumptions=(
        "4, 10 and 21 billion parameters on 8, 16 and 32 A100 SXM 80 GB, one stage each; 128 micro-batches of one "
        "sequence, 1F1B, embedding and head not shared (section 6.2, table 1). Every point of table 5 for the method "
        "'baseline'; its other methods need stages of unlike depth or a divided vocabulary, table 6 V-shaped "
        "schedules.",
        "Vocabularies in thousands, 256,000 at most (artifact/test_one_host.csv of sail-sg/VocabularyParallelism). "
        "Memory is in GiB, as PyTorch's peak is.",
        "Megatron-LM of 2024 (PyTorch container 24.03), fused attention, no recomputation.",
    ),
)  # fmt: skip
