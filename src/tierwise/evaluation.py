"""The spine: scenario → graph → priced ops → memory → schedule → Result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tierwise.core.num import Num, ceil_div, maximum, minimum, num, scalar, where
from tierwise.cost import Target, efficiency
from tierwise.cost.framework import load as framework
from tierwise.memory.footprint import Memory, footprint, weight_bytes
from tierwise.models.lower import lower, running
from tierwise.models.step import Step
from tierwise.program.program import Program
from tierwise.result import Phase, Result
from tierwise.scenario.types import Resolved, Scenario


def evaluate(scenario: Scenario) -> Result:
    """What a scenario costs.

    Any size in it may be an array; arrays broadcast against each other, and every number of the result has
    their shape. A scenario that does not fit is answered like any other (``result.fits`` says so).

    Raises:
        UnknownName, BadField: a name, degree or size that cannot be.
    """
    return evaluate_resolved(scenario.resolved())


def evaluate_resolved(r: Resolved) -> Result:
    """As :func:`evaluate`, for a scenario whose names were already looked up."""
    weights = weight_bytes(r.model, r.plan)
    batch = largest_batch(r, weights) if isinstance(r.traffic.batch, str) else num(r.traffic.batch)
    counted = maximum(batch, 1.0)
    passes = _passes(r, counted)
    target = _target(r, weights)
    phases = []
    for name, step, times, fill in passes:
        graph = lower(step)
        on = replace(target, working=graph.bytes_of("weight")) if r.machine.device.measured else target
        phases.append(Phase(name, step, graph, on, times, fill, _behind(r)))
    memory = _memory(r, weights, counted, [(p.step, p.graph) for p in phases])
    return Result(r, batch, tuple(phases), memory)


def _behind(r: Resolved) -> int | None:
    """How many collectives compute may run ahead of; None when nothing overlaps."""
    return 1 if r.plan.overlap else None


def _target(r: Resolved, weights: dict[str, Num]) -> Target:
    under = framework(r.plan.framework) if r.plan.framework else None
    target = Target(r.machine, efficiency(r.machine.device), r.plan.graphs and under is None, under)
    total = sum((v for k, v in weights.items() if k != "embed"), 0.0)
    resident = where(np.asarray(total) <= target.cache_capacity, 1.0, 0.0)
    return replace(target, resident=resident)


def _passes(r: Resolved, batch: Num) -> list[tuple[str, Step, Num, Num]]:
    """(name, step, passes, pipeline fill) of every phase, for ``batch`` requests over the system."""
    plan, traffic = r.plan, r.traffic
    rank = maximum(batch / plan.dp, 1.0)
    micro = maximum(rank / plan.pp, 1.0)
    out: list[tuple[str, Step, Num, Num]] = []
    encoder = _encoder_tokens(r)
    for phase in ("vision", "audio"):
        for stack in running(r.model, phase):
            items = traffic.images if phase == "vision" and r.model.task == "generate" else 1.0
            if np.all(np.asarray(items) == 0):
                continue
            step = Step(r.model, plan, rank * items, _stack_tokens(r, stack.name), 0.0, phase)
            out.append((phase, step, 1.0, 1.0))
    prompt, output = num(traffic.prompt), num(traffic.output)
    if any(running(r.model, "encode")):
        seqs, times = _chunked(rank, prompt, plan.chunk)[::2]
        out.append(("encode", Step(r.model, plan, seqs, prompt, 0.0, "encode"), times, 1.0))
    if not any(running(r.model, "prefill")):
        return out
    fresh = encoder is not None
    prompt = 1.0 if any(running(r.model, "encode")) or any(running(r.model, "audio")) else prompt
    cached = minimum(plan.kv.shared_prefix, prompt - 1.0) if not _zero(plan.kv.shared_prefix) else 0.0
    seqs, new, times, past = _split(rank, prompt - cached, plan.chunk)
    # A pass is cut into micro-batches that follow each other through the stages; the stages fill once.
    parts = minimum(plan.pp, maximum(seqs, 1.0))
    fill = (times * parts + plan.pp - 1.0) / (times * plan.pp)
    logits = minimum(new / (prompt - cached), 1.0)
    step = Step(r.model, plan, seqs / parts, new, past + cached, "prefill", logits, encoder or 0.0, fresh)
    out.append(("prefill", step, times, fill))
    if not np.all(np.asarray(output) <= 1):
        middle = prompt + maximum(output - 2.0, 0.0) / 2.0
        decode = Step(r.model, plan, micro, 1.0, middle, "decode", 1.0, encoder or 0.0)
        out.append(("decode", decode, maximum(output - 1.0, 0.0), 1.0))
    return out


def _zero(x: Num) -> bool:
    return bool(np.all(np.asarray(x) == 0))


def _split(rank: Num, prompt: Num, chunk: Num) -> tuple[Num, Num, Num, Num]:
    """(sequences, new tokens each, passes, mean cached tokens) of a prefill cut into passes of ``chunk`` tokens.

    Short prompts are packed whole into a pass; a prompt longer than a pass is cut, and its later parts see
    the earlier ones as cached. The mean of that is exact because attention is linear in it.
    """
    pieces = maximum(ceil_div(prompt, chunk), 1.0)
    new = prompt / pieces
    together = maximum(ceil_div(rank * prompt / pieces, chunk), 1.0)
    seqs = maximum(rank / together, 1.0)
    return seqs, new, pieces * rank / seqs, (prompt - new) / 2.0


def _chunked(rank: Num, prompt: Num, chunk: Num) -> tuple[Num, Num, Num]:
    """Encoders cannot cut a sequence; they pack whole ones."""
    together = maximum(ceil_div(rank * prompt, chunk), 1.0)
    seqs = maximum(rank / together, 1.0)
    return seqs, prompt, rank / seqs


def _encoder_tokens(r: Resolved) -> Num | None:
    """Tokens the decoder's cross-attention sees, or None without an encoder."""
    if any(running(r.model, "encode")):
        return num(r.traffic.prompt)
    for stack in running(r.model, "audio"):
        return _stack_tokens(r, stack.name)
    return None


def _stack_tokens(r: Resolved, name: str) -> Num:
    """Tokens of one image or clip, at the size the traffic asks for."""
    return r.model.stack(name).tokens_at(r.traffic.image_size)


def _memory(r: Resolved, weights: dict[str, Num], batch: Num, steps: list[tuple[Step, Program]]) -> Memory:
    traffic, plan = r.traffic, r.plan
    generates = any(running(r.model, "decode"))
    asked = num(traffic.prompt)
    prompt = 1.0 if any(running(r.model, "encode")) or any(running(r.model, "audio")) else asked
    length = prompt + num(traffic.output) - 1.0 if generates else 0.0
    seqs = maximum(maximum(batch / plan.dp, 1.0) / plan.pp, 1.0 / plan.pp)
    final = Step(r.model, plan, seqs, 1.0, length - 1.0, "decode", 1.0, _encoder_tokens(r) or 0.0)
    return footprint(r.model, r.machine, plan, weights, steps, final)


def largest_batch(r: Resolved, weights: dict[str, Num] | None = None) -> Num:
    """The most requests at once that fit in memory, 0 when not even one does.

    Found by bisection on the whole memory model, so that every part of it counts; a multiple of ``dp``.
    """
    weights = weights if weights is not None else weight_bytes(r.model, r.plan)

    def fits(per_rank: Num) -> NDArray[np.bool_]:
        batch = per_rank * r.plan.dp
        steps = [(s, lower(s)) for _, s, _, _ in _passes(r, maximum(batch, 1.0))]
        m = _memory(r, weights, maximum(batch, 1.0), steps)
        return np.asarray(m.fits)

    return scalar(_bisect(fits, limit=2.0**24) * r.plan.dp)


def longest_context(r: Resolved) -> Num:
    """The longest prompt (with the scenario's output) that fits at the scenario's batch, 0 when none does."""
    weights = weight_bytes(r.model, r.plan)
    batch = 1.0 if isinstance(r.traffic.batch, str) else num(r.traffic.batch)

    def fits(prompt: Num) -> NDArray[np.bool_]:
        longer = replace(r, traffic=replace(r.traffic, prompt=maximum(prompt, 1.0)))
        steps = [(s, lower(s)) for _, s, _, _ in _passes(longer, batch)]
        return np.asarray(_memory(longer, weights, batch, steps).fits)

    return _bisect(fits, limit=2.0**30)


def _bisect(fits: Callable[[Num], NDArray[np.bool_]], limit: float) -> Num:
    """The largest whole number for which a monotone test holds, elementwise; 0 when it never does."""
    first = fits(1.0)
    low = np.where(first, 1.0, 0.0)
    high = 2.0 * np.ones_like(low)
    while True:
        ok = fits(scalar(high)) & (low > 0)
        low = np.where(ok, high, low)
        if not np.any(ok) or np.all(high >= limit):
            break
        high = np.where(ok, high * 2.0, high)
    while np.any(high - low > 1.0):
        middle = np.floor((low + high) / 2.0)
        ok = fits(scalar(middle)) & (low > 0)
        low = np.where(ok & (middle > low), middle, low)
        high = np.where(ok | (middle <= low), high, middle)
        high = np.where(low == 0, low, high)
    return scalar(low)
