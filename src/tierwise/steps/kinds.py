"""What an op's work follows from, found out by lowering and not by name."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tierwise.models.lower import lower
from tierwise.models.step import Step
from tierwise.models.types import Model
from tierwise.program.program import Program
from tierwise.scenario.types import Plan

Floats = NDArray[np.float64]
Names = frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Kinds:
    """Ops (segment, name) by what their work follows from.

    Attributes:
        tokens: the number of tokens in the step alone (projections, feed-forward, norms, collectives).
        heads: also how many tokens need logits (last projection and sampling).
        decode, prefill: all others (attention, scans, convolutions over a sequence), which follow from sequences and
            context, in either phase.
    """

    tokens: Names
    heads: Names
    decode: Names
    prefill: Names


def kinds(model: Model, plan: Plan) -> Kinds:
    """By lowering 64 tokens as steps that differ in one thing each: context, logits, phase, sequences."""
    past, logits = np.array([100.0, 5000.0, 100.0]), np.array([1.0, 1.0, 0.5])
    decode = _signatures(lower(Step(model, plan, 64.0, 1.0, past, "decode", logits)), 3)
    seqs, past = np.array([1.0, 2.0, 1.0]), np.array([100.0, 100.0, 5000.0])
    prefill = _signatures(lower(Step(model, plan, seqs, 64.0 / seqs, past, "prefill", 1.0 / seqs)), 3)
    heads = {name for name, s in decode.items() if not np.array_equal(s[:, 0], s[:, 2])}
    tokens = {
        name
        for name, s in decode.items()
        if name not in heads and name in prefill and s.shape == prefill[name].shape
        and np.allclose(np.hstack([s, prefill[name]]), s[:, :1], rtol=1e-9)
    }  # fmt: skip
    known = tokens | heads
    return Kinds(frozenset(tokens), frozenset(heads), frozenset(decode.keys() - known),
                 frozenset(prefill.keys() - known))  # fmt: skip


def _signatures(program: Program, n: int) -> dict[tuple[str, str], Floats]:
    """By op, its dims, FLOPs and operands as an array (numbers, n)."""
    out = {}
    for segment, op in program.walk():
        operands = (o.elements for o in (*op.reads, *op.writes))
        rows = [np.broadcast_to(x, n) for x in (*op.dims.values(), op.flops, *operands)]
        out[segment.name, op.name] = np.stack(rows).astype(float)
    return out
