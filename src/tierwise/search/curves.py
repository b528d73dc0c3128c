"""Closed-loop curves: how fast every kind of engine answers at every number of requests in flight.

Everything of one model, machine and format of the cache is lowered and priced together; a *unit* is what is repeated
to make a deployment: one engine that prefills and decodes, or x prefilling engines beside y decoding ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from tierwise import engines
from tierwise.core.numerics import fmt
from tierwise.machines.types import System
from tierwise.memory.rules import rules
from tierwise.models.types import Model
from tierwise.scenario.types import KV, Plan
from tierwise.search.engines import Engines
from tierwise.search.question import Question
from tierwise.serving.apart import apart
from tierwise.serving.coefficients import calibration, levels, own_steps
from tierwise.serving.recipes import Conditions, conditions
from tierwise.serving.rows import Pool, Row
from tierwise.serving.steady import Client, Coefficients, Steady, steady
from tierwise.serving.work import Array, Load, Work, room, work
from tierwise.steps.corrections import corrections
from tierwise.steps.price import engine_on

Index = NDArray[np.intp]

# Requests in flight per rank and stage at which curves are computed.
FLIGHTS = np.unique(np.geomspace(1.0, 1024.0, 80).round())
# A unit of a disaggregated deployment has at most so many engines of a role.
MOST = 6


@dataclass(frozen=True)
class Curves:
    """``v`` variants of a unit at ``f`` numbers of requests in flight.

    Attributes:
        engines: that decode (or do both), fields of shape (v,); ``prefill``: that prefill, where ``prefills`` > 0.
        prefills, decodes: engines of each role in a unit (v,); ``prefills`` 0 for a unit that does both.
        draft, tokens: draft tokens and token budget of a step (v,).
        flight: requests in flight in the whole unit (v, f), nan where their KV has no room.
        ttft, tpot: seconds; ``rate``: requests per second of the unit (v, f).
    """

    engines: Engines
    prefill: Engines
    prefills: Array
    decodes: Array
    draft: Array
    tokens: Array
    flight: Array
    ttft: Array
    tpot: Array
    rate: Array

    @property
    def devices(self) -> Array:
        """Devices of a unit (v,)."""
        return self.decodes * self.engines.devices + self.prefills * self.prefill.devices


def together(question: Question, model: Model, system: System, engine: str, kv: str, kinds: Engines) -> Curves:
    """Curves of engines that both prefill and decode."""
    free, (how, k) = question.freedom, coefficients(engine, system, model)
    kind, draft = (x.ravel() for x in np.meshgrid(np.arange(len(kinds.tp)), np.asarray(free.drafts), indexing="ij"))
    some = kinds.take(kind)
    load, priced = _priced(question, model, system, engine, kv, some, draft)
    # Budgets change nothing that is priced.
    budgets = np.asarray(free.budgets)
    repeat = np.tile(np.arange(load.tp.size), len(budgets))
    tokens = np.repeat(budgets, load.tp.size)
    room_ = np.concatenate([_room(question, model, system, engine, kv, some, b) for b in budgets])
    found = steady(_take(load, repeat), replace(_take(priced, repeat), room=room_.ravel()), _client(how, tokens), k)
    variant = np.tile(np.arange(len(kind)), len(budgets))
    shape = (len(variant), len(FLIGHTS))
    return _curves(question, some.take(variant), None, np.zeros(shape[0]), np.ones(shape[0]), draft[variant],
                   tokens.reshape(shape)[:, 0], room_, found)  # fmt: skip


def parted(question: Question, model: Model, system: System, engine: str, kv: str, kinds: Engines) -> Curves | None:
    """Curves of disaggregated units: every pair of engines in every small ratio; None where no unit has room."""
    free, (how, k) = question.freedom, coefficients(engine, system, model)
    kinds = kinds.take(np.flatnonzero(_shallow(kinds)))
    pairs = [(p, d, r.numerator, r.denominator)
             for p in range(len(kinds.tp)) for d in range(len(kinds.tp)) for r in _ratios()
             if r.numerator * kinds.devices[p] + r.denominator * kinds.devices[d] <= system.count]  # fmt: skip
    if not pairs:
        return None
    n, drafts = len(pairs), np.asarray(free.drafts)
    p, d, x, y = (np.repeat(c, len(drafts)) for c in np.asarray(pairs).T)
    draft = np.tile(drafts, n)
    rows, f = len(drafts), len(FLIGHTS)
    # Every decoding engine is priced once, then taken by each pair it is part of.
    every = np.repeat(np.arange(len(kinds.tp)), rows)
    load, priced = _priced(question, model, system, engine, kv, kinds.take(every), np.tile(drafts, len(kinds.tp)))
    cell = ((d * rows + np.tile(np.arange(rows), n))[:, None] * f + np.arange(f)).ravel()
    load, mine = _take(load, cell), _take(priced, cell)
    first = ((p * rows)[:, None] * f + 0 * np.arange(f)).ravel()
    lanes = kinds.pp[p] * kinds.dp[p] * x / y
    # A pass over one prompt fills the device; with more of them in it each would wait for the others.
    tokens = min((b for b in free.budgets if b >= question.demand.prompt), default=max(free.budgets))
    room_ = _room(question, model, system, engine, kv, kinds.take(every), tokens).ravel()
    # What prefills must hold the longest request too.
    longest = np.maximum(question.demand.longest, question.demand.prompt + question.demand.output)
    whole = room_[first] * np.repeat(kinds.pp[p], f) * (question.demand.prompt + question.demand.output)
    mine = replace(mine, prefill=priced.prefill[..., first], room=np.where(whole >= longest, room_[cell], 0.0))
    found = apart(load, mine, _client(how, np.full(cell.size, tokens)), np.repeat(lanes, f), k)
    return _curves(question, kinds.take(d), kinds.take(p), x.astype(float), y.astype(float), draft,
                   np.full(len(p), tokens), mine.room.reshape(-1, f), found)  # fmt: skip


def _shallow(kinds: Engines) -> NDArray[np.bool_]:
    """Engines with no more stages than their weights need: deeper ones only add latency to a role of its own."""
    least = {t: np.min(kinds.pp[kinds.tp == t]) for t in np.unique(kinds.tp)}
    return np.asarray([pp == least[t] for t, pp in zip(kinds.tp, kinds.pp, strict=True)], dtype=bool)


def _ratios() -> list[Fraction]:
    return sorted({Fraction(x, y) for x in range(1, MOST + 1) for y in range(1, MOST + 1)})


def _priced(
    question: Question, model: Model, system: System, engine: str, kv: str, kinds: Engines, draft: Array
) -> tuple[Load, Work]:
    """Load and prices of every kind at every number in flight, kinds first; shape (kinds * flights,)."""
    f, n = len(FLIGHTS), len(kinds.tp)
    demand = question.demand
    tp, pp, dp, ep = (np.repeat(c, f) for c in (kinds.tp, kinds.pp, kinds.dp, kinds.ep))
    flight = np.tile(FLIGHTS, n) * dp
    one = np.ones(n * f)
    load = Load(tp, dp, ep, flight, one * demand.prompt, one * demand.output, np.repeat(draft, f))
    plan = Plan(tp=tp, pp=pp, dp=dp, ep=ep, kv=_cache(kv))
    on = engine_on(model, plan, system, engine, max_seqs=int(question.freedom.max_seqs))
    found = work(on, load)
    # Tokens found in the prefix cache are not computed again.
    return load, replace(found, prefill=found.prefill * (1.0 - demand.shared))


def _cache(kv: str) -> KV:
    return KV(key=fmt(kv), value=fmt(kv))


def _room(
    question: Question, model: Model, system: System, engine: str, kv: str, kinds: Engines, budget: float
) -> Array:  # fmt: skip
    """Requests per rank and stage whose KV fits beside weights, activations and the runtime, shape (kinds, flights)."""
    length = question.demand.prompt + question.demand.output
    # An engine has seats for more than its mean, so that chance finds no seat taken.
    seqs = FLIGHTS + 4.0 * np.sqrt(FLIGHTS)
    tp, pp, dp, ep = (c[:, None] for c in (kinds.tp, kinds.pp, kinds.dp, kinds.ep))
    plan = Plan(tp=tp, pp=pp, dp=dp, ep=ep, kv=_cache(kv))
    how = rules(engines.load(engine), plan, share=question.freedom.memory, budget=budget, max_seqs=seqs)
    return np.asarray(np.broadcast_to(room(model, system, plan, how, length), (len(kinds.tp), len(seqs))))


def _client(how: Conditions, tokens: Array) -> Client:
    """Clients whose requests differ and come for ever: no first wave, no cold start; the rest as the engine does it."""
    one = np.ones_like(tokens)
    own = {f.name: getattr(how.client, f.name) * one for f in fields(Client)}
    return Client(**{**own, "budget": tokens, "waves": one * np.inf, "spread": one, "cold": 0.0 * one})


def _curves(
    question: Question, own: Engines, prefill: Engines | None, x: Array, y: Array, draft: Array, tokens: Array,
    room: Array, found: Steady,
) -> Curves:  # fmt: skip
    shape = (len(x), len(FLIGHTS))
    lanes = (own.pp * own.dp * y)[:, None]
    whole = room * own.pp[:, None] * (question.demand.prompt + question.demand.output)
    fits = (
        (whole >= question.demand.longest)
        & (np.minimum(room, question.freedom.max_seqs / own.pp[:, None]) >= FLIGHTS)
        & np.isfinite(lanes)
    )
    flight = np.where(fits, FLIGHTS * lanes, np.nan)
    ttft, tpot = found.ttft.reshape(shape), found.tpot.reshape(shape)
    rate = flight / (ttft + question.demand.output * tpot)
    return Curves(own, prefill or own, x, y, draft, tokens, flight, ttft, tpot, rate)


def _take(value: Load | Work, index: Index):  # type: ignore[no-untyped-def]
    return type(value)(**{f.name: getattr(value, f.name)[..., index] for f in fields(value)})


def coefficients(engine: str, system: System, model: Model) -> tuple[Conditions, Coefficients]:
    """How an engine is usually run, and the fitted numbers of its closed loop on a machine with a model's formats.

    Each of shape (1,). Of no build and no benchmark in particular. What a step takes is the step function's business:
    the loop's own factors on it are neutral, and what it adds is what is on file for the engine.
    """
    row = _row(engine, system, model)
    none = np.asarray([""], dtype=np.str_)
    how = replace(conditions([row]), kind=none, build=none)
    fixes = corrections(engine, system.device, model.name)
    return how, own_steps(calibration().of(levels([row], how), 1), fixes)


def basis(engine: str, system: System, model: Model, parted: bool) -> str:
    """What predictions rest on: a key of the calibration's intervals."""
    if parted:
        return "disaggregated"
    seen = calibration().seen
    known = engine in seen["engine"] and _system_name(system) in seen["system"]
    return "calibrated" if known and any(model.name.startswith(m) for m in seen["model"]) else "transferred"


def intervals(name: str) -> Mapping[str, tuple[float, float]]:
    """Factors on TTFT and TPOT that 80 % of measurements lie between."""
    return calibration().intervals[name]


def _row(engine: str, system: System, model: Model) -> Row:
    mixture = any(w.role == "expert" for s in model.stacks for k in s.kinds for b in k.blocks for w in b.weights())
    dense, experts = (str(model.format_of(role)) for role in ("mlp", "expert"))
    if mixture and "mlp" not in model.formats:
        dense = str(model.format_of("attn"))
    short = [name.split("-")[0] if name.startswith("int") else name for name in (dense, experts)]
    return Row(0, "", model.name, _system_name(system), engine, "", "agg", "", short[0], short[1], 1.0, 1.0, 1.0,
               Pool(1), None, None, None, None)  # fmt: skip


def _system_name(system: System) -> str:
    return system.device.name.replace("-", "_")
