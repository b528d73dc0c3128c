"""What the plan's KV policy makes of a layer's cache: bytes stored, bytes read. Shared by every attention."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tierwise.core.errors import BadField
from tierwise.core.num import Num, is_zero, maximum, minimum, where
from tierwise.core.numerics import Format
from tierwise.models.step import Step
from tierwise.models.types import SequenceState
from tierwise.program.types import Op, Operand


@dataclass(frozen=True)
class CachedTensor:
    """One cached tensor: ``width`` elements a token as stored, ``full`` before any compression."""

    name: str
    width: Num
    full: Num
    format: Format


def mixed(step: Step, stored: Format, tokens: Num) -> Format:
    """The average format when the newest ``residual`` of ``tokens`` are kept as activations."""
    residual = step.plan.kv.residual
    if is_zero(residual):
        return stored
    part = minimum(residual, tokens) / maximum(tokens, 1.0)
    bits = part * step.act.bits + (1.0 - part) * stored.bits
    return replace(stored, bits=bits, meta=(1.0 - part) * stored.meta)


def past_read(step: Step, span: Num | None, budget: Num = float("inf")) -> Num:
    """Cached tokens of one sequence that a new token attends to, of those within its ``span``: policy and budget thin
    them out when decoding."""
    past = step.past if span is None else minimum(step.past, span)
    return minimum(step.plan.kv.visited(past), budget) if step.phase == "decode" else past


def past_kept(step: Step, span: Num | None, budget: Num = float("inf")) -> Num:
    """Cached tokens of one sequence, within its ``span``, that are there to be scored or chosen from."""
    past = step.past if span is None else minimum(step.past, span)
    return minimum(step.plan.kv.stored(past), budget) if step.phase == "decode" else past


def reads(
    step: Step, parts: list[CachedTensor], past: Num, span: Num | None = None, density: Num = 1.0, select: bool = True
) -> Iterator[Operand]:
    """Cache traffic of one pass over ``past`` tokens a sequence; a relayed prefix is read once a batch.

    Args:
        past: tokens a sequence reads of those within its ``span``, before a static pattern.
        density: fraction of them that a static pattern reads, the same for every sequence.
        select: the keys are also looked at to choose among them, when the policy says so.
    """
    kv = step.plan.kv
    own, common = _with_prefix(step, step.past, past, span) if kv.relay else (past, 0.0)
    tokens = (step.seqs * own + common) * density
    for part in parts:
        yield Operand(part.name, "kv", tokens * part.width, mixed(step, part.format, past * density))
    if select and step.phase == "decode" and not is_zero(kv.selector):
        key = parts[0]
        looked_at = step.seqs * past_kept(step, span) * density * key.width
        yield Operand("selector", "kv", looked_at, replace(key.format, bits=kv.selector, meta=0.0))


def states(
    step: Step, parts: list[CachedTensor], span: Num | None, density: Num = 1.0, budget: Num = float("inf")
) -> Iterator[SequenceState]:
    """Cache kept per running sequence, and what a shared prefix keeps once.

    Args:
        span: the newest tokens that are ever looked at again, or None for all.
        density: fraction of the tokens with an entry.
        budget: at most this many tokens are kept.
    """
    kv = step.plan.kv
    within = step.context if span is None else minimum(step.context, span + step.ahead)
    tokens = minimum(kv.stored(within), budget)
    own, common = _with_prefix(step, step.context, tokens, span)
    for part in parts:
        form = mixed(step, part.format, tokens * density)
        yield SequenceState(part.name, "kv", own * density * part.width, form, common * density * part.width)
        if not is_zero(kv.window) and not is_zero(1.0 - kv.rank):
            # A low-rank cache keeps its newest tokens whole beside the compressed copy.
            yield SequenceState(part.name + "_window", "kv", minimum(kv.window, tokens * density) * part.full, step.act)


def _with_prefix(step: Step, context: Num, taken: Num, span: Num | None) -> tuple[Num, Num]:
    """(tokens each sequence has to itself, tokens all have together) of ``taken`` out of a context.

    A window sees only the part of the prefix that it reaches. Where a policy takes a fraction ``f`` of the tokens,
    each sequence takes its own: of the prefix, ``1 - (1 - f)^sequences`` are taken by at least one.
    """
    prefix = step.plan.kv.shared_prefix
    if is_zero(prefix):
        return taken, 0.0
    within = context if span is None else minimum(context, span)
    common = maximum(minimum(prefix, context) - (context - within), 0.0)
    f = minimum(taken / maximum(within, 1.0), 1.0)
    return taken - common * f, common * (1.0 - (1.0 - f) ** step.seqs)


def fixed_state(name: str, step: Step, elements: Num, form: Format) -> SequenceState:
    """State that does not grow. Behind a prefix that all sequences share it is kept once more, to start them from."""
    once = where(np.asarray(step.plan.kv.shared_prefix) > 0, elements, 0.0)
    return SequenceState(name, "state", elements, form, once)


def copy(step: Step, name: str, parts: list[CachedTensor], tokens: Num) -> Op:
    """The past cache read and written again, to stand in one piece with the new token."""
    moved = tuple(Operand(p.name, "kv", tokens * p.width, p.format) for p in parts)
    return Op("elementwise", f"{name}.cache_copy", "attn", {"elements": tokens}, 0.0, moved, moved, "fp32")


def revised(block: Any, policy: str, value: Any) -> Any:
    """A block whose field of the policy's name takes one more: the narrower window, the smaller budget, one copy on top
    of another.

    Raises:
        BadField: a second static pattern, whose pairs may or may not be those of the first.
    """
    old = getattr(block, policy)
    if policy == "density" and not is_zero(1.0 - old):
        raise BadField("sparsify_attention", "density", value, f"nothing: a static pattern of density {old} is there")
    if policy in ("window", "budget") and old is not None:
        value = minimum(old, value)
    elif policy == "copied":
        value = old + value
    return replace(block, **{policy: value})
