"""Decoding by drafts: what a cycle of drafting and verifying yields, what it takes, and when cycles overlap.

One sequence at a time, as papers on speculative decoding report it; many at once are the simulator's business
(:mod:`tierwise.serving.loop.speculate`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tierwise.core.num import Num, ceil_div, maximum, num
from tierwise.evaluation import evaluate
from tierwise.models.lower import lower
from tierwise.result import Phase
from tierwise.scenario.types import Scenario
from tierwise.steps.price import engine_on, price_program, price_step
from tierwise.steps.state import StepState

Floats = NDArray[np.float64]


def expected_tokens(accept: Num, length: Num) -> Num:
    """Mean tokens of a verification of ``length`` drafts in a row, each right with probability ``accept`` when those
    before it were: the drafts up to the first wrong one, and the token the target puts in its place (Leviathan et
    al., arXiv:2211.17192, equation 1)."""
    a, k = np.asarray(accept, dtype=float), np.asarray(length, dtype=float)
    safe = np.where(a < 1.0, a, 0.0)
    out = np.where(a < 1.0, (1.0 - safe ** (k + 1.0)) / (1.0 - safe), k + 1.0)
    return out if out.ndim else float(out)


def verification(scenario: Scenario, drafts: Num) -> Phase:
    """The pass that verifies ``drafts`` tokens of each sequence beside its newest one, at the scenario's mean context.

    A tree of drafts is verified in one pass too; that each branch sees only its own ancestors saves nothing in a
    kernel that masks.
    """
    result = evaluate(scenario)
    decode, r = result.phase("decode"), result.scenario
    on = engine_on(r.model, r.plan, r.machine, r.engine)
    new = num(drafts) + 1.0
    step = replace(decode.step, new=new, logits=new)
    state = StepState.decoding(step.seqs, step.past, num(drafts))
    cost = price_program(on, lower(step), state) if on.facts is None else price_step(on, state)
    return replace(decode, name="verify", step=step, cost=cost)


def servers(length: Num, draft: Num, target: Num) -> Num:
    """Copies of the target that verification beside drafting keeps busy: a pass starts every ``length`` drafts."""
    return maximum(ceil_div(num(target), num(length) * num(draft)), 1.0)


def in_turns(accept: Num, length: Num, draft: Num, target: Num, tokens: int, samples: int = 2000, seed: int = 0) -> Num:
    """Mean seconds until ``tokens`` are written when drafting and verifying take turns.

    Args:
        accept: probability that a draft is right, given that those before it were.
        length: drafts of one turn; ``draft``, ``target``: seconds of one pass of each model.
        samples, seed: texts drawn; the same texts for every setting.

    All but the counts may be arrays; they broadcast.
    """
    a, k, c, t = np.broadcast_arrays(*(np.asarray(x, dtype=float) for x in (accept, length, draft, target)))
    time, left = np.zeros((samples, *a.shape)), np.full((samples, *a.shape), float(tokens))
    rng = np.random.default_rng(seed)
    while np.any(left > 0):
        drafts = np.minimum(k, left - 1.0)
        right = np.minimum(_right(rng, a, samples), drafts)
        running = left > 0
        time += np.where(running, drafts * c + t, 0.0)
        left -= np.where(running, right + 1.0, 0.0)
    out = time.mean(axis=0)
    return out if out.ndim else float(out)


def side_by_side(
    accept: Num, length: Num, draft: Num, target: Num, tokens: int, samples: int = 2000, seed: int = 0
) -> Num:
    """As :func:`in_turns`, but drafting goes on while every ``length`` drafts are verified on a copy of the target
    of their own (:func:`servers` of them): only a wrong draft makes anything wait, for the pass that finds it out
    (Distributed Speculative Inference, arXiv:2405.14105).

    The pass that finds draft ``n + 1`` wrong is the first to see ``n`` drafts; one without drafts starts at once.
    """
    a, k, c, t = np.broadcast_arrays(*(np.asarray(x, dtype=float) for x in (accept, length, draft, target)))
    time, left = np.zeros((samples, *a.shape)), np.full((samples, *a.shape), float(tokens))
    rng = np.random.default_rng(seed)
    while np.any(left > 0):
        right = np.minimum(_right(rng, a, samples), left - 1.0)
        running = left > 0
        time += np.where(running, np.ceil(right / k) * k * c + t, 0.0)
        left -= np.where(running, right + 1.0, 0.0)
    out = time.mean(axis=0)
    return out if out.ndim else float(out)


def _right(rng: np.random.Generator, accept: Floats, samples: int) -> Floats:
    """Right drafts before the first wrong one: geometric; unbounded where all are right."""
    u = rng.random((samples, *([1] * accept.ndim)))
    with np.errstate(divide="ignore", invalid="ignore"):
        n = np.floor(np.log1p(-u) / np.log(accept))
    return np.where(accept <= 0.0, 0.0, np.where(accept >= 1.0, 1e18, n))
