"""Traffic made up by rule: when sessions start, how long their turns are, what they share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from numbers import Real
from typing import Any

import numpy as np

from tierwise.core.errors import TierwiseError
from tierwise.scenario.fields import OUTPUT, PROMPT
from tierwise.serving.traffic import arrivals as arrivals_package
from tierwise.serving.traffic import lengths as lengths_package
from tierwise.serving.traffic._rules import Rule, rule, value
from tierwise.serving.traffic.blocks import BLOCK, session_blocks
from tierwise.serving.traffic.trace import Floats, Ints, Trace, trace

MOST = 1e12  # tokens or seconds that a length may have, so that sums over a trace stay exact in 64 bits
LEAST = 1e-9  # rates, times and variations below are slips of the pen; 0 is none at all


def synthetic(
    requests: int,
    arrivals: str = "poisson",
    *,
    rate: float | None = None,
    concurrency: int | None = None,
    prompt: Rule = PROMPT,
    output: Rule = OUTPUT,
    like: Trace | None = None,
    turns: Rule = 1,
    think: Rule = 0.0,
    system: int = 0,
    systems: int = 1,
    tenants: Mapping[str, float] | None = None,
    priorities: Mapping[int, float] | None = None,
    adapters: int | Sequence[float] = 0,
    samples: int = 1,
    block_size: int = BLOCK,
    seed: int = 0,
) -> Trace:
    """So many requests by rule; the same arguments and seed give the same trace.

    Args:
        requests: how many, over all sessions.
        arrivals: when sessions start: a file of ``traffic/arrivals`` with its arguments, as ``gamma:rate=3,cv=2``.
        rate: sessions a second (requests, where each is a session of one turn).
        concurrency: a closed loop with so many requests in flight, instead of arrivals.
        prompt, output: tokens of what the user writes in a turn and of the answer: a number, a rule of
            ``traffic/lengths`` as ``lognormal:mean=1000,cv=1.2``, or a function (n, rng) -> values.
        like: prompts and outputs drawn together, with replacement, from this trace instead.
        turns: turns of a session, as lengths; each follows the answer to the one before, and repeats its history.
        think: seconds between an answer and the next turn, as lengths.
        system: tokens in front of every prompt, shared; ``systems``: how many different ones, each as likely.
        tenants: weight of each; ``priorities``: weight of each; ``adapters``: number of LoRA adapters, each as
            likely, or their weights. All of a session's turns have the same.
        samples: sequences per prompt.
        block_size: tokens of a block by which shared prefixes are told.

    Raises:
        TierwiseError: a rule that is unknown or lacks an argument; a number that cannot be.
    """
    if concurrency is not None:
        _allowed(concurrency=concurrency)
        arrivals = f"closed:concurrency={concurrency}"
    _allowed(requests=requests, systems=systems, samples=samples, block_size=block_size)
    if not 0 <= system <= MOST:
        raise TierwiseError(f"system: found {system}; allowed: tokens, 0 to {MOST:g}")
    rng = generator(seed)
    session, turn, count = _sessions(turns, requests, rng)
    starts = arrival_rule(arrivals, rate)
    start, closed = starts(len(count), rng)
    asked, answered = _turns(prompt, output, like, requests, rng)
    first = np.cumsum(count) - count  # index of each session's first turn
    grown = np.cumsum(asked + answered) - (asked + answered)
    history = grown - grown[first][session]
    waits = np.where(turn > 0, draw(think, requests, rng, "think"), 0.0)
    rested = np.cumsum(waits)
    earliest = start[session] + rested - rested[first][session]
    tenant = _pick(len(count), list((tenants or {"all": 1.0}).values()), rng)
    level = _pick(len(count), list((priorities or {0: 1.0}).values()), rng)
    weights = [1.0] * adapters if isinstance(adapters, int) else list(adapters)
    adapter = _pick(len(count), weights, rng) if weights else np.full(len(count), -1)
    group = rng.integers(systems, size=len(count))
    whole = trace(
        earliest,
        system + history + asked,
        answered,
        tenant=tenant[session],
        priority=np.array(list(priorities or {0: 1.0}))[level][session],
        after=np.where(turn > 0, np.arange(requests) - 1, -1),
        think=waits,
        samples=np.full(requests, samples),
        adapter=adapter[session],
        tenants=tuple(tenants or {"all": 1.0}),
        closed_loop=closed,
        rate=rate if rate and (count == 1).all() else 0.0,
        source=f"{requests} requests, {arrivals}" + (f", rate {rate:g}/s" if rate else "") + f", seed {seed}",
    )
    if (np.diff(earliest) < 0).any():
        order = np.argsort(earliest, kind="stable")
        whole, session = whole.take(order), session[order]
    if system or (count > 1).any():
        blocks, block_start = session_blocks(whole.prompt, session, block_size, system, group)
        whole = replace(whole, blocks=blocks, block_start=block_start, block_size=block_size)
    return whole


def arrival_rule(arrivals: str, rate: float | None = None) -> Callable[[int, np.random.Generator], tuple[Floats, int]]:
    """A function of how many and a generator, to when they arrive (n,) and how many are in flight (0: an open loop).

    ``arrivals`` names a file of ``traffic/arrivals`` with its arguments; ``rate`` where it does not say.
    """
    module, how = rule(arrivals_package, arrivals, rate=rate)
    for name in ("rate", "concurrency", "cv", "period", "on", "off"):
        least, most = (1, MOST) if name == "concurrency" else (LEAST, np.inf)
        if not least <= how.get(name, least) <= most:
            allowed = f"{least:g} or more" if not how[name] > most else f"at most {most:g}"
            raise TierwiseError(f"arrivals {arrivals!r}: {name}: found {how[name]:g}; allowed: {allowed}")

    def starts(n: int, rng: np.random.Generator) -> tuple[Floats, int]:
        times = np.asarray(module.times(n, rng, **how), np.float64)
        if times.shape != (n,) or not np.isfinite(times).all() or (np.diff(times) < 0).any():
            raise TierwiseError(f"arrivals {arrivals!r}: allowed: {n} finite times that do not decrease")
        return times, module.closed_loop(**how) if hasattr(module, "closed_loop") else 0

    return starts


def _sessions(turns: Rule, requests: int, rng: np.random.Generator) -> tuple[Ints, Ints, Ints]:
    """Session and turn of each request (n,), turns of each session; the last session is cut to fit."""
    drawn = np.maximum(np.rint(draw(turns, requests, rng, "turns", 1.0)), 1).astype(np.int64)
    count = drawn[: int(np.searchsorted(np.cumsum(drawn), requests)) + 1]
    count[-1] -= int(count.sum()) - requests
    session = np.repeat(np.arange(len(count)), count)
    return session, np.arange(requests) - np.repeat(np.cumsum(count) - count, count), count


def _turns(prompt: Rule, output: Rule, like: Trace | None, n: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Tokens a user writes and gets in each turn (n,), at least 1."""
    if like is not None:
        row = rng.integers(len(like), size=n)
        return like.prompt[row], like.output[row]
    asked, answered = draw(prompt, n, rng, "prompt", 1.0), draw(output, n, rng, "output", 1.0)
    return tuple(np.maximum(np.rint(x), 1).astype(np.int64) for x in (asked, answered))  # type: ignore[return-value]


def draw(what: Rule, n: int, rng: np.random.Generator, name: str = "length", least: float = 0.0) -> Floats:
    """Values (n,) of a number, a written rule, or a function; each finite and not negative.

    Args:
        name: what they are, for messages; ``least``: the smallest number that may be given (what a rule draws below
            it is the rule's tail, for the caller to cut).
    """
    found = value(what) if isinstance(what, str) else what
    if isinstance(found, str):
        module, how = rule(lengths_package, found)
        values = module.draw(n, rng, **how)
    elif callable(found):
        values = found(n, rng)
    else:
        if not isinstance(found, Real) or not least <= found <= MOST:
            raise TierwiseError(f"{name}: found {what}; allowed: a number from {least:g} to {MOST:g}, or a rule")
        values = np.full(n, float(found))
    values = np.asarray(values, np.float64)
    if values.shape != (n,) or not ((values >= 0) & (values <= MOST)).all():
        wrong = values[~((values >= 0) & (values <= MOST))] if values.shape == (n,) else np.zeros(0)
        found = f"{wrong[0]:g}" if len(wrong) else f"an array of shape {values.shape}"
        raise TierwiseError(f"{name} {what!r}: found {found}; allowed: {n} numbers from 0 to {MOST:g}")
    return values


def generator(seed: int) -> np.random.Generator:
    """What draws, by seed."""
    if seed < 0:
        raise TierwiseError(f"seed: found {seed}; allowed: a whole number of at least 0")
    return np.random.default_rng(seed)


def _pick(n: int, weights: list[float], rng: np.random.Generator) -> Ints:
    """Index (n,) of one of the weights, as likely as it is heavy."""
    share = np.asarray(weights, np.float64)
    if not (len(share) and np.isfinite(share).all() and (share >= 0).all() and share.sum() > 0):
        raise TierwiseError(f"weights: found {weights}; allowed: numbers of 0 or more, one above 0")
    return rng.choice(len(share), n, p=share / share.sum())


def _allowed(**counts: Any) -> None:
    for name, count in counts.items():
        if count < 1:
            raise TierwiseError(f"{name}: found {count}; allowed: a whole number of at least 1")
