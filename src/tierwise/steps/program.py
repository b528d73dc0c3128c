"""From what a step works on to its program: rows of all tokens, rows that need logits, and what each sequence needs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tierwise.core.num import Num, is_zero, maximum
from tierwise.models.lower import lower
from tierwise.models.step import Step
from tierwise.models.types import Model
from tierwise.program.program import Body, Program, Repeat
from tierwise.program.types import Op
from tierwise.scenario.types import Plan
from tierwise.steps.kinds import Kinds, Names
from tierwise.steps.state import Chunk, StepState

Ops = dict[tuple[str, str], Op]


@dataclass(frozen=True)
class StepPart:
    """What sequences of one kind add to a step: their program, the ops of it that are theirs, and how often these run
    (a rank that holds every eighth chunk runs them an eighth of the time)."""

    program: Program
    names: Names
    share: Num = 1.0


def plain(model: Model, plan: Plan, state: StepState) -> Step | None:
    """The pass that the step is, where all of its sequences are of one kind and nothing pads it."""
    if not is_zero(state.padding):
        return None
    if not state.chunks and not is_zero(state.decodes):
        return decode_step(model, plan, state)
    if len(state.chunks) == 1 and is_zero(state.decodes) and np.all(np.asarray(state.chunks[0].count) >= 1):
        return chunk_step(model, plan, state, state.chunks[0])
    return None


def step_program(model: Model, plan: Plan, state: StepState, k: Kinds) -> tuple[Program, tuple[StepPart, ...]]:
    """The program of a step that is no plain pass, and the parts of it that follow from sequences.

    Args:
        k: what each op's work follows from.
    """
    parts = sequence_parts(model, plan, state, k)
    by_rows = lower(rows_step(model, plan, state.tokens + state.padding, state.balance))
    rows = _named(by_rows, k.tokens) | _named(lower(rows_step(model, plan, state.heads)), k.heads)
    base = parts[0].program if parts else by_rows
    items = tuple(_filled(item, rows, k, parts) for item in base.items)
    return Program(items), parts


def rows_step(model: Model, plan: Plan, rows: Num, balance: Num = 1.0) -> Step:
    """A step of so many tokens whose sequences do not matter."""
    return Step(model, plan, rows, 1.0, 1.0, "decode", balance=balance)


def decode_step(model: Model, plan: Plan, state: StepState) -> Step:
    """The decoding sequences of a step."""
    new = 1.0 + state.drafts
    logits = new if state.logits is None else state.logits / maximum(state.decodes, 1e-30)
    return Step(model, plan, state.decodes, new, state.mean_context, "decode", logits, state.encoder,
                balance=state.balance)  # fmt: skip


def chunk_step(model: Model, plan: Plan, state: StepState, chunk: Chunk) -> Step:
    """A step that is chunks of one kind."""
    logits = 1.0 if state.logits is None else state.logits / maximum(chunk.count, 1e-30)
    return Step(model, plan, chunk.count, chunk.new, chunk.past, "prefill", logits, state.encoder, state.fresh_encoder,
                balance=state.balance)  # fmt: skip


def sequence_parts(model: Model, plan: Plan, state: StepState, k: Kinds) -> tuple[StepPart, ...]:
    """What the decoding sequences and each kind of chunk need besides the rows they share."""
    out = []
    if not is_zero(state.decodes):
        out.append(StepPart(lower(decode_step(model, plan, state)), k.decode))
    for chunk in state.chunks:
        # A rank that holds a part of a chunk works on a whole one, less often.
        whole = replace(chunk, count=maximum(chunk.count, 1.0))
        out.append(StepPart(lower(chunk_step(model, plan, state, whole)), k.prefill, chunk.count / whole.count))
    return tuple(out)


def _named(program: Program, names: Names) -> Ops:
    return {(s.name, op.name): op for s, op in program.walk() if (s.name, op.name) in names}


def _filled(item: Body | Repeat, rows: Ops, k: Kinds, parts: tuple[StepPart, ...]) -> Body | Repeat:
    """A body with the rows of all tokens in place of its own, and the sequence ops of every part where the first of
    them stand."""
    if isinstance(item, Repeat):
        return replace(item, bodies=tuple(_body(b, rows, k, parts) for b in item.bodies))
    return _body(item, rows, k, parts)


def _body(body: Body, rows: Ops, k: Kinds, parts: tuple[StepPart, ...]) -> Body:
    own = [_own(body.name, p) for p in parts]
    out: list[Op | Body | Repeat] = []
    placed = False
    for op in body.items:
        if not isinstance(op, Op):
            out.append(op)
            continue
        key = (body.name, op.name)
        if key in rows:
            out.append(rows[key])
        elif not placed:
            placed = True
            for part, ops in zip(parts, own, strict=True):
                if np.all(np.asarray(part.share) == 1.0):
                    out += ops
                else:
                    out.append(Repeat("now and then", (Body(body.name, tuple(ops)),), count=part.share))
    if not placed:
        out += [op for ops in own for op in ops]
    return Body(body.name, tuple(out))


def _own(name: str, part: StepPart) -> list[Op]:
    return [op for s, op in part.program.walk() if s.name == name and (name, op.name) in part.names]
