"""llama.cpp on several cards of one computer: layers dealt to them or, before there was a choice, parts of products.

Since build 1800 (pull request 4766) layers are dealt by default: a token passes the cards one after the other, and the
micro-batches of a prompt follow each other through them. Before, every product was cut by its outputs: each card read
its part of the weights, inputs went to all of them and outputs came back, through the host's memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from tierwise.core.num import Num
from tierwise.cost import Target
from tierwise.cost.kits import Kit
from tierwise.cost.ondevice import with_kit
from tierwise.program.types import Op

FIRST_BY_LAYER = 1800
# Inputs and outputs of products are fp32.
_FP32 = 4.0


def by_rows(build: float) -> bool:
    """Whether a build cuts products, not layers, by default."""
    return build < FIRST_BY_LAYER


def step_by_rows(ops: tuple[tuple[Num, Op], ...], on: Target, k: Kit, cards: float) -> Num:
    """Seconds of a step whose products are cut by their outputs."""
    out: Num = k.values["step"]
    for times, op in ops:
        out = out + times * (with_kit(part(op, cards), on, k).time + exchange(op, on, k.values, cards))
    return out


def part(op: Op, cards: float) -> Op:
    """What one card does of a product; other ops run on the first card."""
    if op.kind != "matmul" or not any(o.role == "weight" for o in op.reads):
        return op
    reads = tuple(replace(o, elements=o.elements / cards) if o.role == "weight" else o for o in op.reads)
    return replace(op, dims={**op.dims, "n": op.dims["n"] / cards}, reads=reads, flops=op.flops / cards)


def exchange(op: Op, on: Target, values: Mapping[str, Num], cards: Num) -> Num:
    """Seconds to hand a product's inputs to the other cards and its outputs back, and to wait for them."""
    if op.kind != "matmul" or not any(o.role == "weight" for o in op.reads):
        return 0.0
    link = on.device.link("host")
    d, others = op.dims, cards - 1.0
    moved = d["m"] * (d["k"] + d["n"] / cards) * others * _FP32
    waits = values["sync"] * np.sqrt(others) * float(str(op.options.get("parts", 1)))
    return waits + (0.0 if link is None else moved / (link.bandwidth * values["link"]))


def pipelined(values: Mapping[str, Num], chunks: Num, cards: Num) -> Num:
    """How many times as fast micro-batches of a prompt pass cards that hold a part of the layers each: less than
    ``chunks × cards / (chunks + cards - 1)``, since parts are uneven and activations are handed on."""
    return (chunks * cards / (chunks + cards - 1.0)) ** values["stages"]


__all__ = ["by_rows", "exchange", "part", "pipelined", "step_by_rows"]
