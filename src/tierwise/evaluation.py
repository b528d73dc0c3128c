"""The spine: scenario → passes → programs → priced steps → memory → Result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tierwise import workloads
from tierwise.core.num import Num, maximum, num, scalar, where
from tierwise.memory.account import Memory, MemoryRules, account, profiled
from tierwise.memory.rules import rules
from tierwise.memory.stages import ByStage
from tierwise.models.lower import lower, running
from tierwise.models.step import Step
from tierwise.result import Phase, Result
from tierwise.scenario.types import Resolved, Scenario
from tierwise.steps.cost import StepCost
from tierwise.steps.kinds import shared
from tierwise.steps.price import KERNELS, EngineOn, engine_on, price_program, price_step
from tierwise.steps.stages import slowest
from tierwise.steps.state import StepState
from tierwise.workloads import Pass, per_rank


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
    on = engine_on(r.model, r.plan, r.machine, r.engine)
    weights = rules_of(r, on).held(r.model, r.machine, r.plan)
    batch = largest_batch(r, weights) if isinstance(r.traffic.batch, str) else num(r.traffic.batch)
    counted = maximum(batch, 1.0)
    passes = workloads.passes(r, counted)
    runs = r.engine if on.facts is not None and on.facts.framework else KERNELS
    alone = on if on.facts is None else engine_on(r.model, r.plan, r.machine, runs, alone=True)
    phases = tuple(_phase(p, on, alone, after) for p, after in zip(passes, [*passes[1:], None], strict=True))
    memory = _memory(r, on, weights, counted, passes)
    return Result(r, batch, phases, memory)


def _phase(p: Pass, on: EngineOn, alone: EngineOn, after: Pass | None) -> Phase:
    """A pass priced as a step of the engine, or by its kernels alone where no engine steps; ``after``: the next one."""
    if p.state is not None and on.facts is not None:
        cost = _of_several(p, price_step(on, p.state), on)
        stretch = _paced(p, cost, on, on.facts.extra_layers, after)
        return Phase(p.name, p.step, cost, p.times, stretch, _share(p, cost, on))
    state = p.state if p.state is not None else StepState()
    step = p.step if alone.parts == 1 else p.step.but(seqs=p.step.seqs / alone.parts)
    cost = price_program(alone, lower(step), state)
    return Phase(p.name, p.step, cost, p.times, _paced(p, cost, alone, "middle", after), p.share * p.busy)


def _of_several(p: Pass, cost: StepCost, on: EngineOn) -> StepCost:
    """The cost of the mean of a prompt's chunks, which knows how many there are and what the last of them costs, which
    sees most cached tokens."""
    if p.deepest is None or p.state is None or np.all(np.asarray(p.deepest) <= np.asarray(p.step.past)):
        return cost
    count = maximum(2.0 * (p.deepest - p.step.past) / p.step.new + 1.0, 1.0)
    last = replace(p.state, chunks=tuple(replace(c, past=p.deepest) for c in p.state.chunks))
    return replace(cost, several=count, last=price_step(on, last))


def _paced(p: Pass, cost: StepCost, on: EngineOn, rule: str, after: Pass | None) -> Num:
    """The pass's time end to end over its own where the slowest stage of a pipeline sets the pace.

    Of n micro-batches each takes a turn of the slowest stage, and one, the longest, passes all the others as well.
    Where chunks of a prompt wait for each other, no more are under way than there are prompts.
    """
    pp = p.step.plan.pp
    if np.all(np.asarray(pp) <= 1) or p.step.phase not in ("prefill", "decode"):
        return p.pipeline_stretch
    pace = slowest(cost, p.step.model, p.step.plan, rule)
    if p.step.phase == "decode":
        # A sequence waits until all micro-batches have passed; with one sequence each, there may be fewer.
        return where(np.asarray(p.step.seqs) > 1.0, pace, p.pipeline_stretch)
    turn, passes = pace / pp, maximum(p.times, 1e-300)
    count = p.pipeline_stretch * passes * pp - (0.0 if p.follows else pp - 1.0)
    if not on.chunks_follow:
        turn = maximum(turn, 1.0 / num(p.prompts))
    first = 0.0 if p.follows else (1.0 - turn) * _longest(cost, on, after)
    return (count * turn + first) / passes


def _share(p: Pass, cost: StepCost, on: EngineOn) -> Num:
    """Of the pass's work, what the mean device does: where ranks share experts, all of these, and elsewhere a rank
    without a request computes one token."""
    if p.state is None or np.all(np.asarray(p.busy) == 1.0) or not (common := shared(p.step.model, p.step.plan)):
        return p.share * p.busy
    whole, experts = cost.spent(on.actions), cost.spent(on.actions, common)
    token = price_step(on, StepState.decoding(1.0, 1.0))
    least = token.spent(on.actions) - token.spent(on.actions, common)
    # Ranks that replay a graph run as many rows, with a request or without.
    k = on.kinds
    rows = cost.spent(on.actions, (k.tokens | k.heads) - common) + token.spent(on.actions, k.decode)
    least = where(np.asarray(cost.replayed) > 0, rows, least)
    return p.share * (experts + p.busy * (whole - experts) + (1.0 - p.busy) * least) / whole


def _longest(cost: StepCost, on: EngineOn, after: Pass | None) -> Num:
    """Time of the longest of a prefill's passes over that of the mean one: the last, or what is left of the prompts."""
    if cost.last is None:
        return 1.0
    longest = cost.last.time
    if after is not None and after.follows and after.state is not None:
        longest = maximum(longest, where(np.asarray(after.times) > 0, price_step(on, after.state).time, 0.0))
    return longest / cost.time


def _memory(
    r: Resolved, on: EngineOn, weights: dict[str, ByStage], batch: Num, passes: list[Pass], largest: Num | None = None
) -> Memory:  # fmt: skip
    how = rules_of(r, on)
    seqs = per_rank(r, batch)[0] / r.plan.pp
    seen = workloads.encoder_tokens(r)
    final = Step(r.model, r.plan, seqs, 1.0, workloads.final_length(r) - 1.0, "decode", 1.0, seen)
    programs = [lower(p.step) for p in passes] if how.budget is None else []
    return account(r.model, r.machine, r.plan, how, final, programs, weights, largest)


def rules_of(r: Resolved, on: EngineOn) -> MemoryRules:
    """How memory is laid out: as the engine does, where its steps run the model."""
    engine = on.facts if r.model.task == "generate" and any(running(r.model, "prefill")) else None
    return rules(engine, r.plan)


def largest_batch(r: Resolved, weights: dict[str, ByStage] | None = None) -> Num:
    """The most requests at once that fit in memory, 0 when not even one does.

    Found by bisection on the whole memory account, so that every part of it counts; a multiple of ``dp``.
    """
    on = engine_on(r.model, r.plan, r.machine, r.engine)
    how = rules_of(r, on)
    weights = weights if weights is not None else how.held(r.model, r.machine, r.plan)
    largest = None if how.budget is None else profiled(r.model, r.plan, how)

    def fits(per_rank: Num) -> NDArray[np.bool_]:
        batch = maximum(per_rank * r.plan.dp, 1.0)
        return np.asarray(_memory(r, on, weights, batch, workloads.passes(r, batch), largest).fits)

    return scalar(_bisect(fits, limit=2.0**24) * r.plan.dp)


def longest_context(r: Resolved) -> Num:
    """Tokens of the longest prompt that fits and the scenario's output together, 0 when none does."""
    prompt = longest_prompt(r)
    return where(np.asarray(prompt) > 0, prompt + num(r.traffic.output), 0.0)


def longest_prompt(r: Resolved) -> Num:
    """The longest prompt (with the scenario's output) that fits at the scenario's batch, 0 when none does."""
    batch = 1.0 if isinstance(r.traffic.batch, str) else num(r.traffic.batch)
    on = engine_on(r.model, r.plan, r.machine, r.engine)
    how = rules_of(r, on)
    weights = how.held(r.model, r.machine, r.plan)
    largest = None if how.budget is None else profiled(r.model, r.plan, how)

    def fits(prompt: Num) -> NDArray[np.bool_]:
        longer = replace(r, traffic=replace(r.traffic, prompt=maximum(prompt, 1.0)))
        return np.asarray(_memory(longer, on, weights, batch, workloads.passes(longer, batch), largest).fits)

    return _bisect(fits, limit=2.0**30)


_CANDIDATES = 64  # of one evaluation, where there is one element


def _bisect(fits: Callable[[Num], NDArray[np.bool_]], limit: float) -> Num:
    """The largest whole number up to ``limit``, a power of two, for which a monotone test holds, elementwise; 0 when it
    never does. Several candidates are one evaluation along a leading axis: as long as there are few elements, many cost
    hardly more than one.
    """
    low = np.where(fits(1.0), 1.0, 0.0)
    at_once = max(1, _CANDIDATES // max(low.size, 1))
    turns = np.arange(1.0, at_once + 1.0).reshape(-1, *(1,) * low.ndim)

    def held(candidates: NDArray[np.float64]) -> NDArray[np.intp]:
        ok = fits(candidates if at_once > 1 else scalar(candidates[0]))
        return np.asarray(np.logical_and.accumulate(np.broadcast_to(ok, candidates.shape)).sum(axis=0))

    grows = low > 0
    while np.any(grows):
        n = held(np.minimum(low * 2.0**turns, limit))
        low = np.where(grows, np.minimum(low * 2.0**n, limit), low)
        grows = grows & (n == at_once) & (low < limit)
    gap = np.where(low < limit, low, 0.0)  # low holds and low + gap does not
    while np.any(gap > 1.0):
        step = np.ceil(gap / (at_once + 1.0))
        n = np.minimum(held(low + step * turns), np.ceil(gap / np.maximum(step, 1.0)) - 1.0)
        low, gap = low + n * step, np.minimum(step, gap - n * step)
    return scalar(low)
