"""PowerSGD (arXiv:1905.13727): gradients of matrices are averaged as products of two thin ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial

from tierwise.models.blocks.conv import Conv
from tierwise.models.blocks.ends import Embedding, Head
from tierwise.models.blocks.lstm import LSTM
from tierwise.models.family import stack
from tierwise.models.types import Block, Layer, Model
from tierwise.papers.base import contrast, exchanged
from tierwise.papers.types import NEEDS_FEATURE, Claim, Paper

MiB = 2.0**20
WORKERS = 16.0
WORDS, WIDTH, DEPTH = 28869.0, 650.0, 3
# Table 3: MB an epoch, and milliseconds a batch, without compression and with ranks.
RANKS = ("none", "powersgd:1", "powersgd:2", "powersgd:4")
SENT = {"ResNet-18": (1023.0, 4.0, 8.0, 14.0), "LSTM": (7730.0, 25.0, 38.0, 64.0)}
TIMES = {"ResNet-18": (312.0, 229.0, 239.0, 260.0), "LSTM": (300.0, 131.0, 141.0, 134.0)}


@cache
def resnet() -> Model:
    """ResNet-18 for images of 32 x 32: a first convolution of 3 x 3, and no pooling behind it."""
    layers, before = [], 64.0
    for i, width in enumerate((64.0, 128.0, 256.0, 512.0)):
        for j in range(2):
            stride = 2.0 if i and not j else 1.0
            scale = 8.0 / 2.0**i
            blocks: list[Block] = [
                Conv("conv1", before, width, 3.0, stride, scale=scale, norm=True, activated=True),
                Conv("conv2", width, width, 3.0, scale=scale, norm=True),
            ]
            if before != width:
                blocks.append(Conv("shortcut", before, width, 1.0, stride, scale=scale, norm=True))
            layers.append(Layer(f"stage{i + 1}", tuple(blocks)))
            before = width
    stem = Conv("conv1", 3.0, 64.0, 3.0, scale=8.0, norm=True, activated=True)
    ends = {"before": (stem,), "after": (Head(512.0, 10.0, bias=True, pooled=True),)}
    return Model("resnet-18-cifar", "resnet", 512.0, 0.0, (stack("net", layers, **ends),), task="classify")


@cache
def lstm() -> Model:
    """Three layers over words, whose table is the output's matrix too."""
    layers = [Layer("lstm", (LSTM(WIDTH, WIDTH),))] * DEPTH
    ends = {"before": (Embedding(WORDS, WIDTH),), "after": (Head(WIDTH, WORDS, tied=True, bias=True),)}
    return Model("lstm-wikitext-2", "lstm", WIDTH, WORDS, (stack("net", layers, **ends),))


# Model, and batches of an epoch: 50,000 images in 128 a worker, what is left over dropped; 2,088,628 words in 64
# sequences of 30 a worker.
TASKS: dict[str, tuple[Callable[[], Model], float]] = {
    "ResNet-18": (resnet, math.floor(50_000 / (WORKERS * 128.0))),
    "LSTM": (lstm, math.ceil(2_088_628 / (WORKERS * 64.0 * 30.0))),
}


def sent(task: str, compress: str) -> float:
    """MiB that a worker sends in an epoch."""
    model, batches = TASKS[task]
    return batches * exchanged(model(), contrast("none", compress)) / MiB


def _claims(task: str) -> list[Claim]:
    out = []
    for compress, published, time in zip(RANKS, SENT[task], TIMES[task], strict=True):
        how = "no compression" if compress == "none" else f"rank {compress[-1]}"
        printed = (published - 0.5, published + 0.5)
        out += [
            Claim(f"{task}: sent in an epoch, {how}", printed, "MB", "count", "table 3",
                  partial(sent, task, compress), extra=True, unread=True),
            Claim(f"{task}: a batch on 16 devices, {how}", time, "ms", "absolute", "table 3", missing=NEEDS_FEATURE,
                  extra=True, why="training of convolutions and of recurrent networks has no time here"),
        ]  # fmt: skip
    return out


PAPER = Paper(
    slug="powersgd",
    title="PowerSGD: Practical Low-Rank Gradient Compression for Distributed Optimization",
    source="arXiv:1905.13727",
    mechanism="Each gradient matrix is sent as two thin ones, each added up over all workers as it is.",
    claims=(*_claims("ResNet-18"), *_claims("LSTM")),
    assumptions=(
        "16 workers; ResNet-18 on CIFAR-10 with 128 images each, the last batch dropped; three layers of 650 on "
        "WikiText-2 with 64 sequences of 30 words each, table and head shared (authors' repository: "
        "hyperparameters.md, tasks/cifar.py, tasks/language_modeling).",
        "A kernel of a convolution is a matrix of outputs by everything else; vectors are sent whole; all in fp32 "
        "(gradient_reducers.py, RankKReducer).",
        "28,869 words: the table of gradients' shapes in the appendix. 2,088,628 words of text: the data set's own "
        "(arXiv:1609.07843); the authors' tokenizer makes somewhat more of them.",
        "MB are MiB: 11.17 million parameters of 4 bytes, 24 times, are 1073e6 bytes. Numbers are printed whole, so "
        "that each stands for what rounds to it.",
        "The paper's numbers are as remembered, written down before running; its text was not at hand.",
    ),
)  # fmt: skip
