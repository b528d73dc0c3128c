"""Vocabulary Parallelism (arXiv:2411.05288): embedding and output head divided over all stages of a pipeline, where
alone they make its ends the slowest and the fullest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import numpy as np

from tierwise.core.num import Num
from tierwise.models.types import Model
from tierwise.papers.base import (
    Layout,
    TrainStep,
    UnevenStep,
    contrast,
    redistributed,
    schedule,
    trained,
    training_rate,
)
from tierwise.papers.catalog._gpt import gpt
from tierwise.papers.types import NEEDS_FEATURE, Claim, Paper

MICRO_BATCHES, PEAK, GiB = 128.0, 312e12, 2.0**30
# Tables 1 and 2: stages, one a GPU -> layers, width, heads.
MODELS = {8: (32, 3072.0, 24.0), 16: (48, 4096.0, 32.0), 32: (64, 5120.0, 40.0)}
V_MODELS = {16: (32, 4096.0, 32.0), 24: (48, 5120.0, 40.0), 32: (64, 6144.0, 48.0)}
VOCABULARIES = (32.0, 64.0, 128.0, 256.0)  # thousands
Row = tuple[tuple[float, ...], tuple[float, ...]]
# Table 5: stages and tokens of a sequence -> by method per cent of the peak and GiB, by vocabulary. Layers that are
# redistributed leave memory as it was.
TABLE: dict[tuple[int, float], dict[str, Row]] = {
    (8, 2048.0): {
        "baseline": ((46.16, 40.48, 33.11, 25.23), (14.86, 16.32, 19.25, 25.64)),
        "redis": ((46.01, 46.37, 44.22, 38.91), (14.86, 16.32, 19.25, 25.64)),
        "vocab-1": ((50.42, 50.28, 49.93, 50.12), (15.63, 16.02, 16.84, 18.59)),
        "vocab-2": ((50.23, 50.18, 49.82, 49.69), (14.83, 15.23, 16.04, 17.78)),
    },
    (8, 4096.0): {
        "baseline": ((47.05, 41.87, 35.00, 26.75), (21.39, 22.85, 25.78, 31.64)),
        "redis": ((46.93, 46.78, 47.44, 43.01), (21.39, 22.85, 25.78, 31.64)),
        "vocab-1": ((50.98, 50.98, 50.83, 50.66), (24.04, 24.47, 25.41, 27.34)),
        "vocab-2": ((50.93, 50.75, 50.56, 50.40), (22.44, 22.89, 23.80, 25.73)),
    },
    (16, 2048.0): {
        "baseline": ((45.66, 40.09, 32.44, 24.21), (24.03, 25.98, 29.92, 38.71)),
        "redis": ((45.56, 42.82, 38.65, 36.98), (24.03, 25.98, 29.92, 38.71)),
        "vocab-1": ((49.02, 50.62, 50.54, 50.66), (24.37, 24.63, 25.14, 26.26)),
        "vocab-2": ((48.90, 50.49, 50.46, 50.46), (23.57, 23.83, 24.35, 25.47)),
    },
    (16, 4096.0): {
        "baseline": ((47.56, 41.21, 33.88, 25.33), (36.99, 38.94, 42.85, 50.90)),
        "redis": ((47.41, 43.07, 43.15, 40.15), (36.99, 38.94, 42.85, 50.90)),
        "vocab-1": ((50.93, 50.97, 50.71, 51.22), (39.46, 39.73, 40.31, 41.53)),
        "vocab-2": ((50.97, 50.80, 50.68, 50.90), (37.89, 38.18, 38.77, 39.92)),
    },
    (32, 2048.0): {
        "baseline": ((42.81, 37.28, 28.97, 20.86), (33.45, 35.89, 41.17, 52.16)),
        "redis": ((43.48, 37.29, 36.32, 29.16), (33.45, 35.89, 41.17, 52.16)),
        "vocab-1": ((45.85, 45.92, 45.90, 46.11), (33.38, 33.55, 33.86, 34.51)),
        "vocab-2": ((45.54, 45.86, 45.86, 46.16), (32.72, 32.88, 33.20, 33.84)),
    },
    (32, 4096.0): {
        "baseline": ((43.68, 38.11, 30.05, 21.63), (54.97, 57.41, 62.29, 73.05)),
        "redis": ((44.01, 38.12, 37.87, 31.03), (54.97, 57.41, 62.29, 73.05)),
        "vocab-1": ((46.41, 46.44, 46.68, 46.83), (57.41, 57.56, 57.88, 58.58)),
        "vocab-2": ((46.23, 46.35, 46.55, 46.84), (56.09, 56.26, 56.61, 57.31)),
    },
}
# Table 6, on V-Half; the baseline did not fit twice.
V_TABLE: dict[tuple[int, float], dict[str, Row]] = {
    (16, 2048.0): {
        "baseline": ((46.41, 38.52, 28.75, 19.99), (15.57, 19.77, 28.55, 46.77)),
        "vocab-1": ((52.82, 53.11, 53.41, 52.89), (13.20, 13.46, 13.98, 15.02)),
    },
    (16, 4096.0): {
        "baseline": ((50.01, 41.17, 31.36, 21.90), (21.22, 25.61, 34.56, 53.11)),
        "vocab-1": ((58.69, 58.56, 58.44, 57.59), (20.14, 20.41, 20.96, 22.06)),
    },
    (24, 2048.0): {
        "baseline": ((51.07, 43.13, 32.38, 22.54), (23.94, 29.12, 39.98, 61.71)),
        "vocab-1": ((56.70, 56.50, 55.72, 54.86), (21.08, 21.29, 21.72, 22.57)),
    },
    (24, 4096.0): {
        "baseline": ((54.53, 45.96, 34.99, 24.31), (33.60, 38.97, 49.90, 72.60)),
        "vocab-1": ((60.09, 60.09, 59.42, 58.22), (32.55, 32.78, 33.22, 34.12)),
    },
    (32, 2048.0): {
        "baseline": ((52.80, 45.56, 35.69), (34.11, 40.28, 53.22)),
        "vocab-1": ((57.70, 57.62, 57.69, 57.80), (30.85, 31.04, 31.42, 32.18)),
    },
    (32, 4096.0): {
        "baseline": ((56.06, 48.17, 37.85), (48.84, 55.19, 68.12)),
        "vocab-1": ((60.10, 60.14, 60.72, 59.82), (47.99, 48.19, 48.59, 49.38)),
    },
}
# Barriers between the passes of a divided vocabulary.
DIVIDED = {"vocab-1": 2.0, "vocab-2": 1.0}
# Bytes that the kernels of Megatron-LM's own loss read and write of a logit, forward and backward: the authors' script
# does not ask for the fused one. Where the vocabulary is divided, the first pass casts the softmax for a product and
# the second one scales it by the sum over all devices (megatron/core/tensor_parallel of the authors' repository:
# cross_entropy.py, vocab_output.py).
HOW, LOSS, LOSS_DIVIDED = "megatron-2024", (38.0, 14.0), (44.0, 22.0)


def model(shape: tuple[int, float, float], vocab: Num) -> Model:
    layers, width, heads = shape
    return gpt(f"GPT of {layers} layers", layers, width, heads, vocab=1e3 * vocab, tied=False)


def _layout(method: str, stages: int, seq: float, v: bool) -> Layout:
    return Layout(pp=float(stages), global_batch=MICRO_BATCHES, seq=seq, schedule=schedule("v_half") if v else 0.0,
                  vocabulary=contrast(0.0, DIVIDED[method]) if method in DIVIDED else 0.0)  # fmt: skip


@cache
def step(method: str, stages: int, seq: float, v: bool = False) -> TrainStep:
    """One optimizer step for each vocabulary."""
    made = model((V_MODELS if v else MODELS)[stages], np.asarray(VOCABULARIES))
    return trained(made, f"{stages}xa100-sxm-80gb", _layout(method, stages, seq, v), HOW,
                   loss=contrast(LOSS, LOSS_DIVIDED) if method in DIVIDED else LOSS)  # fmt: skip


@cache
def moved(stages: int, seq: float, vocab: float) -> UnevenStep:
    """One optimizer step with layers redistributed."""
    return redistributed(model(MODELS[stages], vocab), f"{stages}xa100-sxm-80gb", _layout("redis", stages, seq, False),
                         layers(stages, seq, vocab), HOW, loss=LOSS)  # fmt: skip


def _one(values: Num, vocab: float) -> float:
    return float(np.broadcast_to(values, len(VOCABULARIES))[VOCABULARIES.index(vocab)])


def layers(stages: int, seq: float, vocab: float) -> tuple[int, ...]:
    """Layers of each stage, by the authors' count of arithmetic (table 4), so that the largest stage is least; of equal
    stages, later ones have more, as in the authors' logs."""
    count, width, _ = MODELS[stages]
    layer, head = 72.0 * width + 12.0 * seq, 6.0 * 1e3 * vocab
    out = [0] * stages
    for _ in range(count):
        at = min(range(stages), key=lambda i: ((out[i] + 1) * layer + (i == stages - 1) * head, -i))
        out[at] += 1
    return tuple(out)


def utilization(method: str, stages: int, seq: float, vocab: float, v: bool = False) -> float:
    """Per cent of the peak, by the authors' count (table 4): all of attention's scores, three times a forward pass."""
    count, width, _ = (V_MODELS if v else MODELS)[stages]
    flops = MICRO_BATCHES * seq * width * (count * (72.0 * width + 12.0 * seq) + 6.0 * 1e3 * vocab)
    rate = training_rate(moved(stages, seq, vocab) if method == "redis" else step(method, stages, seq, v), flops)
    return 100.0 * _one(rate, vocab) / PEAK


def peak(method: str, stages: int, seq: float, vocab: float, v: bool = False) -> float:
    """GiB on the fullest device."""
    if method == "redis":
        return max(float(np.asarray(s.memory.peak)) for s in moved(stages, seq, vocab).stages) / GiB
    return _one(step(method, stages, seq, v).memory.peak, vocab) / GiB


def gain(stages: int, seq: float, vocab: float) -> float:
    """Per cent of throughput over the better of both ordinary placements."""
    ordinary = max(utilization(m, stages, seq, vocab) for m in ("baseline", "redis"))
    return 100.0 * (utilization("vocab-1", stages, seq, vocab) / ordinary - 1.0)


def gains() -> list[float]:
    return [gain(*key, vocab) for key in TABLE for vocab in VOCABULARIES]


_LEAST = (
    "Steps with a divided vocabulary come out 7 % too fast, ordinary ones 3 % too slow. Embedding on every stage, with "
    "its exchange, takes 1.6 ms of 44 in the authors' timings (artifact/exp_one_host.csv: 8 stages, 256,000 entries), "
    "and is not priced. What the vocabulary's exchanges take from the layers beside them (7 % there) is."
)


def claims(table: dict[tuple[int, float], dict[str, Row]], where: str, v: bool) -> Iterator[Claim]:
    for (stages, seq), methods in table.items():
        for method, (rates, memories) in methods.items():
            for vocab, rate, memory in zip(VOCABULARIES, rates, memories, strict=False):
                what = f"{method}{' on V-Half' * v}, {stages} stages, {seq:.0f} tokens, vocabulary {vocab:.0f}k"
                at = (method, stages, seq, vocab, v)
                yield Claim(f"{what}, of the peak", rate, "%", "absolute", where, _at(utilization, at), extra=True)
                yield Claim(f"{what}, memory", memory, "GiB", "memory", where, _at(peak, at), extra=True)


def _at(value: Callable[..., float], at: tuple[object, ...]) -> Callable[[], float]:
    return lambda: value(*at)


PAPER = Paper(
    slug="vocabulary-parallelism",
    title="Balancing Pipeline Parallelism with Vocabulary Parallelism",
    source="arXiv:2411.05288",
    mechanism="Every stage computes a part of the vocabulary's layers, in passes of their own between the others.",
    claims=(
        Claim("throughput over the ordinary placements, least", 5.0, "%", "ratio", "abstract; table 5",
              lambda: min(gains()), why=_LEAST),
        Claim("throughput over the ordinary placements, most", 51.0, "%", "up-to", "abstract; table 5",
              lambda: max(gains()), why=_LEAST),
        *claims(TABLE, "table 5", v=False),
        *claims(V_TABLE, "table 6", v=True),
        Claim("interlaced, 8 stages, 2048 tokens, vocabulary 32k, of the peak", 51.18, "%", "absolute", "table 5",
              missing=NEEDS_FEATURE, extra=True,
              why="passes of the vocabulary that all stages make at once and wait for; so the method's other points"),
    ),
    assumptions=(
        "4, 10 and 21 billion parameters on 8, 16 and 32 A100 SXM 80 GB (7, 16 and 30 billion on 16, 24 and 32 with "
        "V-Half), one stage each; 128 micro-batches of one sequence, embedding and head not shared (section 6.2, "
        "tables 1 and 2). Every point of tables 5 and 6.",
        "'redis' divides layers so that the stage with most arithmetic has least, by the counts of table 4. The "
        "abstract's 5 to 51 % are read as the range over table 5 of the method's gain over the better of 'baseline' "
        "and 'redis'.",
        "Vocabularies in thousands, 256,000 at most (artifact/exp_one_host.csv of sail-sg/VocabularyParallelism). "
        "Memory is in GiB, as PyTorch's peak is. vocab-1 has two barriers, vocab-2 one (README of that repository). "
        "Where layers are redistributed, stages near the end have more (artifact/exp_one_host.csv: 4, 4, 4, 5, 5, 5, 5 "
        "and none).",
        "Megatron-LM of 2024 (PyTorch container 24.03), fused attention, no recomputation, its loss not fused "
        "(pretrain_gpt.sh of that repository).",
    ),
)  # fmt: skip
