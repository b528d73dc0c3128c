"""Sequence parallelism (arXiv:2105.13120): devices hold parts of every sequence, and keys and values go round them."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np

from tierwise.core.num import Num
from tierwise.models.blocks.attention import Attention
from tierwise.models.blocks.ends import Embedding, Head
from tierwise.models.blocks.mlp import MLP
from tierwise.models.family import pre_norm, stack
from tierwise.models.types import Model
from tierwise.papers.base import Layout, contrast, trained
from tierwise.papers.types import NEEDS_FEATURE, Claim, Paper

WIDTH, HEADS, VOCAB = 768.0, 12.0, 30522.0
# Megatron divides heads, of which BERT Base has 12; the paper's own divides the sequence.
TENSOR, SEQUENCE = Layout(tp=12.0), Layout(cp=64.0)
BATCHES, LENGTHS = np.arange(1.0, 6000.0), np.arange(64.0, 20000.0, 64.0)


@cache
def bert() -> Model:
    """BERT Base as it is pretrained: every token sees all others, and the head tells of every token."""
    attention = Attention(WIDTH, HEADS, HEADS, WIDTH / HEADS, qkv_bias=True, out_bias=True, causal=False)
    layer = pre_norm("layer", WIDTH, attention, MLP(WIDTH, 4.0 * WIDTH, gated=False, bias=True), bias=True)
    ends = {"before": (Embedding(VOCAB, WIDTH),), "after": (Head(WIDTH, VOCAB, tied=True),)}
    return Model("bert-base-pretrained", "bert", WIDTH, VOCAB, (stack("decoder", [layer] * 12, **ends),))


def most(layout: Layout, tried: Num, **shape: Num) -> float:
    """The largest of what was tried that fits."""
    step = trained(bert(), "64xp100-sxm", replace(layout, **shape), "megatron-2022", flash=False)
    return float(np.max(np.where(np.broadcast_to(step.memory.fits, np.shape(tried)), tried, 0.0)))


def batch(layout: Layout) -> float:
    return most(layout, BATCHES, global_batch=BATCHES, micro_batch=BATCHES, seq=512.0)


def length(layout: Layout) -> float:
    return most(layout, LENGTHS, global_batch=64.0, micro_batch=64.0, seq=LENGTHS)


PAPER = Paper(
    slug="sequence-parallelism-rsa",
    title="Sequence Parallelism: Long Sequence Training from System Perspective",
    source="arXiv:2105.13120",
    mechanism="Each device has a part of every sequence; keys and values go round in a ring.",
    claims=(
        Claim("largest batch over tensor parallelism, 64 P100", 13.7, "x", "ratio", "abstract; Figure 3a",
              lambda: batch(contrast(TENSOR, SEQUENCE)) / batch(TENSOR), metric="capacity",
              why="1849 sequences on 64 devices, where the figure shows about 1600, over 192 on 12 with tensor "
              "parallelism, where 1600 / 13.7 leaves 117: what Megatron of 2021 kept whole on every device beyond the "
              "stream, its masks and its norms' outputs, is not known"),
        Claim("longest sequence over tensor parallelism, 64 P100", 3.0, "x", "ratio", "abstract; Figure 5a",
              lambda: length(contrast(TENSOR, SEQUENCE)) / length(TENSOR), metric="capacity"),
        Claim("tokens of a sequence with sparse attention", 114.0, "thousand", "at-least", "abstract",
              missing=NEEDS_FEATURE, metric="capacity",
              why="attention to a fixed number of projected keys, in training"),
        Claim("length of a sequence over sparse attention on one device", 27.0, "x", "at-least", "abstract",
              missing=NEEDS_FEATURE, metric="capacity",
              why="attention to a fixed number of projected keys, in training"),
    ),
    assumptions=(
        "BERT Base; 64 devices of 16 GB against the 12 that tensor parallelism can use; 512 tokens for the batch, 64 "
        "sequences for the length (sections 4.2 and 4.3).",
        "16 bits with an fp32 copy of the weights (configuration of the authors' example: fp16, 12 layers, 12 heads, "
        "width 768); a step is one micro-batch; scores are written out, as Megatron of 2021 did.",
        "The head of masked tokens as one matrix shared with the embedding; pooler and sentence head are left out.",
    ),
)  # fmt: skip
