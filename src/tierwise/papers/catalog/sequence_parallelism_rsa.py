"""Sequence parallelism (arXiv:2105.13120): devices hold parts of every sequence, and keys and values go round them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial

import numpy as np

from tierwise.core.num import Num
from tierwise.models.blocks.attention import Attention
from tierwise.models.blocks.ends import Embedding, Head
from tierwise.models.blocks.mlp import MLP
from tierwise.models.family import pre_norm, stack
from tierwise.models.types import Model
from tierwise.papers.base import Layout, TrainStep, contrast, trained
from tierwise.papers.types import NEEDS_FEATURE, Claim, Paper

VOCAB = 30522.0
# Layers, width, heads.
BASE, LARGE = (12, 768.0, 12.0), (24, 1024.0, 16.0)
BATCHES, LENGTHS = np.arange(1.0, 6000.0), np.arange(64.0, 20000.0, 64.0)
MiB = 2.0**20
# Table 4: devices, sequences, tokens of each, MB allocated by tensor and by sequence parallelism on eight stages.
WEAK = ((1, 64, 512, 8477.28, 8477.53), (2, 128, 512, 9520.47, 8478.76), (4, 256, 512, 12232.52, 8481.26),
        (8, 512, 512, None, 8490.75), (1, 64, 256, 3707.39, 3707.01), (2, 64, 512, 4993.43, 4670.64),
        (4, 64, 1024, 8175.93, 6601.88), (8, 64, 2048, 14862.09, 10536.38))  # fmt: skip


def tensor(devices: float) -> Layout:
    """Megatron divides heads, of which BERT Base has 12 and BERT Large 16."""
    return Layout(tp=devices)


def sequence(devices: float) -> Layout:
    """The paper's own divides the sequence."""
    return Layout(cp=devices)


@cache
def bert(size: tuple[int, float, float]) -> Model:
    """BERT as it is pretrained: every token sees all others, and the head tells of every token."""
    layers, width, heads = size
    attention = Attention(width, heads, heads, width / heads, qkv_bias=True, out_bias=True, causal=False)
    layer = pre_norm("layer", width, attention, MLP(width, 4.0 * width, gated=False, bias=True), bias=True)
    ends = {"before": (Embedding(VOCAB, width),), "after": (Head(width, VOCAB, tied=True),)}
    return Model("bert-pretrained", "bert", width, VOCAB, (stack("decoder", [layer] * layers, **ends),))


def step(size: tuple[int, float, float], layout: Layout, **shape: Num) -> TrainStep:
    return trained(bert(size), "64xp100-sxm", replace(layout, **shape), "megatron-2022", flash=False)


def most(size: tuple[int, float, float], layout: Layout, tried: Num, **shape: Num) -> float:
    """The largest of what was tried that fits."""
    fits = step(size, layout, **shape).memory.fits
    return float(np.max(np.where(np.broadcast_to(fits, np.shape(tried)), tried, 0.0)))


def batch(size: tuple[int, float, float], layout: Layout) -> float:
    return most(size, layout, BATCHES, global_batch=BATCHES, micro_batch=BATCHES, seq=512.0)


def length(size: tuple[int, float, float], layout: Layout, sequences: float) -> float:
    return most(size, layout, LENGTHS, global_batch=sequences, micro_batch=sequences, seq=LENGTHS)


def batches(size: tuple[int, float, float], ours: float, theirs: float) -> float:
    """The largest batch over tensor parallelism's."""
    plain = tensor(theirs)
    return batch(size, contrast(plain, sequence(ours))) / batch(size, plain)


def lengths(size: tuple[int, float, float], ours: float, theirs: float, sequences: float) -> float:
    plain = tensor(theirs)
    return length(size, contrast(plain, sequence(ours)), sequences) / length(size, plain, sequences)


def allocated(layout: Layout, sequences: float, tokens: float) -> float:
    """MiB at the worst moment of the fullest of eight stages."""
    staged = replace(layout, pp=STAGES)
    memory = step(LARGE, staged, global_batch=sequences, micro_batch=sequences / STAGES, seq=tokens).memory
    return float(memory.peak) / MiB


STAGES = 8.0


def _weak() -> list[Claim]:
    out = []
    for devices, sequences, tokens, theirs, ours in WEAK:
        what = f"memory of {sequences} sequences of {tokens} on {devices} devices a stage"
        for how, layout, published in (("tensor", tensor, theirs), ("sequence", sequence, ours)):
            if published is not None:
                out.append(Claim(f"{what}, {how} parallelism", published, "MiB", "memory", "table 4", extra=True,
                                 compute=partial(_one, layout, devices, sequences, tokens), why=_WHOLE))  # fmt: skip
    return out


def _one(layout: Callable[[float], Layout], devices: float, sequences: float, tokens: float) -> float:
    return allocated(layout(float(devices)), float(sequences), float(tokens))


_WHOLE = (
    "tensor parallelism of 2021 kept about 13 bytes more of each element of the stream whole on every device than is "
    "counted here; which tensors is not known"
)


PAPER = Paper(
    slug="sequence-parallelism-rsa",
    title="Sequence Parallelism: Long Sequence Training from System Perspective",
    source="arXiv:2105.13120",
    mechanism="Each device has a part of every sequence; keys and values go round in a ring.",
    claims=(
        Claim("largest batch over tensor parallelism, 64 P100", 13.7, "x", "ratio", "abstract; Figure 3a",
              lambda: batches(BASE, 64.0, 12.0), metric="capacity", why=_WHOLE),
        Claim("longest sequence over tensor parallelism, 64 P100", 3.0, "x", "ratio", "abstract; Figure 5a",
              lambda: lengths(BASE, 64.0, 12.0, 64.0), metric="capacity"),
        Claim("longest sequence over tensor parallelism on 12 of 16 P100", 1.4, "x", "ratio", "section 4.3",
              lambda: lengths(BASE, 16.0, 12.0, 64.0), metric="capacity", extra=True),
        Claim("largest batch over tensor parallelism, BERT Large on 16 P100", 2.7, "x", "ratio", "appendix C",
              lambda: batches(LARGE, 16.0, 16.0), metric="capacity", extra=True, why=_WHOLE),
        Claim("largest batch over tensor parallelism on 16, BERT Large on 64 P100", 10.2, "x", "ratio", "appendix C",
              lambda: batches(LARGE, 64.0, 16.0), metric="capacity", extra=True, why=_WHOLE),
        Claim("longest sequence over tensor parallelism on 16, BERT Large on 64 P100", 2.0, "x", "ratio",
              "appendix E", lambda: lengths(LARGE, 64.0, 16.0, 16.0), metric="capacity", extra=True),
        *_weak(),
        Claim("tokens of a sequence with sparse attention", 114.0, "thousand", "at-least", "abstract",
              missing=NEEDS_FEATURE, metric="capacity",
              why="attention to a fixed number of projected keys, in training"),
        Claim("length of a sequence over sparse attention on one device", 27.0, "x", "at-least", "abstract",
              missing=NEEDS_FEATURE, metric="capacity",
              why="attention to a fixed number of projected keys, in training"),
    ),
    assumptions=(
        "64 devices of 16 GB against the 12 (BERT Large: 16) that tensor parallelism can use; 512 tokens for the "
        "batch, 64 (16) sequences for the length (sections 4.2 and 4.3, appendices C and E).",
        "Table 4 divides BERT Large, as the 12 layers of BERT Base are no multiple of its eight stages. How many "
        "micro-batches is not stated: as many as stages, of which the first one then holds all (4 in place of 8 move "
        "values by 1 to 2 %, 2 leave the last stage's logits in the way).",
        "16 bits with an fp32 copy of the weights (configuration of the authors' example: fp16, 12 layers, 12 heads, "
        "width 768); a step is one micro-batch; scores are written out, as Megatron of 2021 did.",
        "The head of masked tokens as one matrix shared with the embedding; pooler and sentence head are left out.",
    ),
)  # fmt: skip
