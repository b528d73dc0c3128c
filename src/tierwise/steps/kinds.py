"""What an op's work follows from, found out by lowering and not by name."""

from __future__ import annotations

from dataclasses import dataclass
from math import isclose

import numpy as np

from tierwise.core.num import Num
from tierwise.models.lower import lower
from tierwise.models.step import Step
from tierwise.models.types import Model
from tierwise.program.program import Program
from tierwise.scenario.types import Plan

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
    decode = [_signatures(lower(Step(model, plan, 64.0, 1.0, past, "decode", logits)))
              for past, logits in ((100.0, 1.0), (5000.0, 1.0), (100.0, 0.5))]  # fmt: skip
    prefill = [_signatures(lower(Step(model, plan, seqs, 64.0 / seqs, past, "prefill", 1.0 / seqs)))
               for seqs, past in ((1.0, 100.0), (2.0, 100.0), (1.0, 5000.0))]  # fmt: skip
    heads = {name for name, s in decode[0].items() if not _same(s, decode[2][name])}
    tokens = {
        name
        for name, s in decode[0].items()
        if name not in heads and all(name in other and _same(s, other[name]) for other in (decode[1], *prefill))
    }
    known = tokens | heads
    return Kinds(frozenset(tokens), frozenset(heads), frozenset(decode[0].keys() - known),
                 frozenset(prefill[0].keys() - known))  # fmt: skip


def shared(model: Model, plan: Plan) -> Names:
    """Ops whose work follows from the tokens of all data-parallel ranks: experts that these share."""
    even, half = (_signatures(lower(Step(model, plan, 64.0, 1.0, 100.0, "decode", balance=x))) for x in (1.0, 0.5))
    return frozenset(name for name, s in even.items() if not _same(s, half[name]))


Signature = tuple[Num, ...]


def _same(a: Signature, b: Signature) -> bool:
    return len(a) == len(b) and all(x is y or _equal(x, y) for x, y in zip(a, b, strict=True))


def _equal(x: Num, y: Num) -> bool:
    """To nine digits, in every element."""
    if isinstance(x, float) and isinstance(y, float):
        return isclose(x, y, rel_tol=1e-9)
    return np.array_equal(x, y) or bool(np.all(np.isclose(x, y, rtol=1e-9, atol=0.0)))


def _signatures(program: Program) -> dict[tuple[str, str], Signature]:
    """By op, its dims, FLOPs and the elements of its operands."""
    return {
        (segment.name, op.name): (*op.dims.values(), op.flops, *(o.elements for o in (*op.reads, *op.writes)))
        for segment, op in program.walk()
    }
