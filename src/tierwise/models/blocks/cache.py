"""What the plan's KV policy makes of a layer's cache: bytes stored, bytes read. Shared by every attention."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from tierwise.core.num import Num, is_zero, maximum, minimum
from tierwise.core.numerics import Format
from tierwise.models.step import Step
from tierwise.models.types import State
from tierwise.program.types import Operand


@dataclass(frozen=True)
class Part:
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


def past_read(step: Step, span: Num | None) -> Num:
    """Cached tokens of one sequence that a new token attends to: the policy thins them out when decoding."""
    past = step.plan.kv.visited(step.past) if step.phase == "decode" else step.past
    return past if span is None else minimum(past, span)


def reads(step: Step, parts: list[Part], past: Num) -> Iterator[Operand]:
    """Cache traffic of one pass over ``past`` tokens a sequence; a relayed prefix is read once a batch."""
    kv = step.plan.kv
    prefix = minimum(kv.shared_prefix, past) if kv.relay else 0.0
    tokens = step.seqs * (past - prefix) + prefix
    for part in parts:
        yield Operand(part.name, "kv", tokens * part.width, mixed(step, part.format, past))
    if step.phase == "decode" and not is_zero(kv.selector):
        key = parts[0]
        looked_at = step.seqs * kv.stored(step.past) * key.width
        yield Operand("selector", "kv", looked_at, replace(key.format, bits=kv.selector, meta=0.0))


def states(step: Step, parts: list[Part], span: Num | None, density: Num = 1.0) -> Iterator[State]:
    """Cache kept per running sequence, and what a shared prefix keeps once."""
    kv = step.plan.kv
    tokens = kv.stored(step.context)
    tokens = (tokens if span is None else minimum(tokens, span)) * density
    prefix = minimum(kv.shared_prefix, tokens)
    for part in parts:
        form = mixed(step, part.format, tokens)
        yield State(part.name, "kv", (tokens - prefix) * part.width, form, prefix * part.width)
        if not is_zero(kv.window) and not is_zero(1.0 - kv.rank):
            # A low-rank cache keeps its newest tokens whole beside the compressed copy.
            yield State(part.name + "_window", "kv", minimum(kv.window, tokens) * part.full, step.act)
