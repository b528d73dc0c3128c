"""Closed-loop curves: how fast every kind of engine answers at every number of requests in flight.

Everything of one model, machine and format of the cache is lowered and priced together; a *unit* is what is repeated
to make a deployment: one engine that prefills and decodes, or x prefilling engines beside y decoding ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from tierwise import engines as engine_files
from tierwise.memory.rules import rules
from tierwise.scenario.types import Plan
from tierwise.search.confidence import Slower, slower
from tierwise.search.constants import CONSTANTS, DEVIATIONS
from tierwise.search.engines import Engines, engines
from tierwise.search.family import Family, coefficients
from tierwise.search.question import Question
from tierwise.serving.closed_loop import closed_loop
from tierwise.serving.steady import ClosedLoopClients
from tierwise.serving.step_times import Array, ClosedLoopPoint, StepTimes, cache_in, room, step_times, take
from tierwise.steps.price import engine_on

Index = NDArray[np.intp]

# Requests in flight per rank and stage at which curves are computed.
FLIGHTS = np.unique(np.geomspace(1.0, CONSTANTS["curves.most"], int(CONSTANTS["curves.points"])).round())


@dataclass(frozen=True)
class Curves:
    """``v`` variants of a unit at ``f`` numbers of requests in flight.

    Attributes:
        engines: that decode (or do both), fields of shape (v,); ``prefill``: that prefill, where ``prefills`` > 0.
        prefills, decodes: engines of each role in a unit (v,); ``prefills`` 0 for a unit that does both.
        draft, tokens: draft tokens and token budget of a step (v,).
        flight: requests in flight in the whole unit (v, f), nan where their KV has no room.
        ttft, tpot: seconds; ``rate``: requests per second of the unit (v, f).
        affordable: units there are devices for (v,); ``rent``: dollars per second of a unit (v,), nan where unknown.
        instance: dollars per second of what is rented together, 0 where each device is rented for itself.
        slower: factors on TTFT and TPOT from expected times to those that a plan must hold at.
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
    affordable: Array
    rent: Array
    instance: float = 0.0
    slower: tuple[float, float] = (1.0, 1.0)

    @property
    def devices(self) -> Array:
        """Devices of a unit (v,)."""
        return self.decodes * self.engines.devices + self.prefills * self.prefill.devices


@dataclass(frozen=True)
class _Units:
    """``v`` variants of a unit: which kind of engine decodes and which prefills (indices), engines of either role
    (``prefills`` 0 where one kind does both), which number of drafts, and tokens in a step; each of shape (v,)."""

    own: Index
    prefill: Index
    prefills: Array
    decodes: Array
    draft: Index
    tokens: Array


@dataclass(frozen=True)
class _Role:
    """Engines of a family, priced each once: kinds first, then drafts, then numbers in flight."""

    family: Family
    kinds: Engines
    points: ClosedLoopPoint
    times: StepTimes


# Roles by what makes them so, for families that share some.
Known = dict[tuple[str, ...], "_Role | None"]


def curves_of(question: Question, family: Family, known: Known | None = None) -> list[Curves]:
    """Curves of every unit of a family; empty where no engine holds the weights.

    Args:
        known: what was priced already, of other families of the question; added to.
    """
    roles = [_role(question, f, {} if known is None else known) for f in family.roles]
    if any(r is None for r in roles):
        return []
    first, last = (r for r in (roles[0], roles[-1]) if r is not None)
    modes = question.freedom.modes
    units = []
    if family.first is not None:
        units = [_disaggregated(question, first, last)]
    else:
        units += [_aggregated(question, last.kinds)] if "aggregated" in modes else []
        units += [_disaggregated(question, first, last)] if "disaggregated" in modes and family.most > 1 else []
    units = [u for u in units if len(u.own)]
    sure = [slower(question, r.family) for r in (first, last)] if units else []
    return [replace(_curves(question, first, last, u), slower=_factors(sure, bool(u.prefills.any()))) for u in units]


def _factors(sure: list[Slower], disaggregated: bool) -> tuple[float, float]:
    first, last = sure
    return (first.disaggregated[0], last.disaggregated[1]) if disaggregated else last.aggregated


def _role(question: Question, family: Family, known: Known) -> _Role | None:
    key = (family.system.name, family.engine, family.kv, str(family.weights))
    if key not in known:
        family = replace(family, system=family.affordable)
        kinds, _ = engines(family.model, family.system, question.freedom.memory)
        known[key] = _Role(family, kinds, *_priced(question, family, kinds)) if len(kinds.tp) else None
    return known[key]


def _aggregated(question: Question, kinds: Engines) -> _Units:
    """Every engine with every number of drafts and every token budget."""
    free = question.freedom
    budget, kind, draft = (x.ravel() for x in np.meshgrid(
        np.asarray(free.budgets), np.arange(len(kinds.tp)), np.arange(len(free.drafts)), indexing="ij"))  # fmt: skip
    return _Units(kind, kind, np.zeros(len(kind)), np.ones(len(kind)), draft, budget)


def _disaggregated(question: Question, first: _Role, last: _Role) -> _Units:
    """Every pair of engines in every small ratio that the machines have devices for."""
    free, before, after = question.freedom, first.kinds.devices, last.kinds.devices
    one = first.family.system.name == last.family.system.name
    most, own = last.family.system.count, first.family.system.count

    def fits(p: int, d: int, x: int, y: int) -> bool:
        a, b = x * before[p], y * after[d]
        return bool(a + b <= most if one else a <= own and b <= most)

    shallow = [[int(i) for i in np.flatnonzero(_shallow(r.kinds))] for r in (first, last)]
    pairs = [(p, d, r.numerator, r.denominator) for p in shallow[0] for d in shallow[1] for r in _ratios()
             if fits(p, d, r.numerator, r.denominator)]  # fmt: skip
    p, d, x, y = (np.repeat(c, len(free.drafts)) for c in np.asarray(pairs, dtype=np.intp).reshape(-1, 4).T)
    # A pass over one prompt fills the device; with more of them in it each would wait for the others.
    tokens = min((b for b in free.budgets if b >= question.demand.prompt), default=max(free.budgets))
    draft = np.tile(np.arange(len(free.drafts)), len(pairs))
    return _Units(d, p, x.astype(float), y.astype(float), draft, np.full(len(d), tokens))


def _curves(question: Question, first: _Role, last: _Role, units: _Units) -> Curves:
    """Curves of units of engines that prefill (or do both: ``first`` is then ``last``) and engines that decode."""
    demand, f, drafts = question.demand, len(FLIGHTS), np.asarray(question.freedom.drafts)
    length = demand.prompt + demand.output
    own, other, two = last.kinds.take(units.own), first.kinds.take(units.prefill), units.prefills > 0
    row = units.own * len(drafts) + units.draft
    cell = (row[:, None] * f + np.arange(f)).ravel()
    budgets, budget = np.unique(units.tokens, return_inverse=True)
    rooms = [np.stack([_room(question, r.family, r.kinds, b) for b in budgets]) for r in (first, last)]
    before, held = rooms[0][budget, units.prefill], rooms[1][budget, units.own]
    # What prefills must hold the longest request too.
    whole = before[:, :1] * other.pp[:, None] * length
    held = np.where(two[:, None] & (whole < np.maximum(demand.longest, length)), 0.0, held)
    mine = replace(take(last.times, cell), room=held.ravel())
    if two.any():
        # A prompt's pass does not depend on how many requests are in flight, nor on drafts.
        at = np.repeat(units.prefill * len(drafts) * f, f)
        mine = replace(mine, prefill=first.times.prefill[..., at], prefill_power=first.times.prefill_power[..., at])
    client, coef = coefficients(last.family)
    lanes = np.where(two, other.pp * other.dp * units.prefills / units.decodes, 0.0)
    found = closed_loop(take(last.points, cell), mine, _endless(client, np.repeat(units.tokens, f)),
                        np.repeat(lanes, f), coef)  # fmt: skip
    ttft, tpot = found.ttft.reshape(-1, f), found.tpot.reshape(-1, f)
    fits = held * own.pp[:, None] * length >= demand.longest
    fits &= np.minimum(held, question.freedom.max_seqs / own.pp[:, None]) >= FLIGHTS
    flight = np.where(fits, FLIGHTS * (own.pp * own.dp * units.decodes)[:, None], np.nan)
    rate = flight / (ttft + demand.output * tpot)
    affordable, rent = _affordable(question, first.family, last.family, units.prefills * other.devices,
                                   units.decodes * own.devices)  # fmt: skip
    return Curves(own, other, units.prefills, units.decodes, drafts[units.draft], units.tokens, flight, ttft, tpot,
                  rate, affordable, rent, _instance(first.family, last.family))  # fmt: skip


def _instance(first: Family, last: Family) -> float:
    """Dollars per second of what both roles' devices are rented by, 0 where by the device or in two ways."""
    same = first.system.name == last.system.name and last.system.rented > 1 and np.isfinite(last.rent)
    return float(last.system.rent(1.0)) if same else 0.0


def _affordable(question: Question, first: Family, last: Family, before: Array, after: Array) -> tuple[Array, Array]:
    """(units that there are devices and money for, dollars per second of one), of units of so many devices of either
    role, shape (v,)."""
    if _instance(first, last) or not before.any():
        rent = before * (first.rent if before.any() else 0.0) + after * last.rent
    else:
        rent = np.asarray(first.system.rent(before)) + np.asarray(last.system.rent(after))
    if first.system.name == last.system.name:
        affordable = last.most / (before + after)
    else:
        affordable = np.minimum(first.most / before, last.most / after)
    if np.isfinite(question.budget):
        affordable = np.where(np.isfinite(rent), np.minimum(affordable, question.budget / rent * (1.0 + 1e-9)),
                              affordable)  # fmt: skip
    return np.floor(affordable), rent


def _shallow(kinds: Engines) -> NDArray[np.bool_]:
    """Engines with no more stages than their weights need: deeper ones only add latency to a role of its own."""
    least = {t: np.min(kinds.pp[kinds.tp == t]) for t in np.unique(kinds.tp)}
    return np.asarray([pp == least[t] for t, pp in zip(kinds.tp, kinds.pp, strict=True)], dtype=bool)


def _ratios() -> list[Fraction]:
    most = int(CONSTANTS["curves.role"]) + 1
    return sorted({Fraction(x, y) for x in range(1, most) for y in range(1, most)})


def _priced(question: Question, family: Family, kinds: Engines) -> tuple[ClosedLoopPoint, StepTimes]:
    """Every kind of engine with every number of drafts at every number in flight, shape (kinds * drafts * flights,)."""
    f, drafts = len(FLIGHTS), np.asarray(question.freedom.drafts)
    tp, pp, dp, ep = (np.repeat(c, len(drafts) * f) for c in (kinds.tp, kinds.pp, kinds.dp, kinds.ep))
    flight = np.tile(FLIGHTS, len(kinds.tp) * len(drafts)) * dp
    draft = np.tile(np.repeat(drafts, f), len(kinds.tp))
    point, times = engine_steps(question, family, Engines(tp, pp, dp, ep), flight, draft,
                                max_seqs=int(question.freedom.max_seqs))  # fmt: skip
    # Tokens found in the prefix cache are not computed again.
    fresh = 1.0 - question.demand.shared
    return point, replace(times, prefill=times.prefill * fresh, prefill_power=times.prefill_power * fresh)


def engine_steps(
    question: Question, family: Family, kinds: Engines, flight: Array, draft: Array, max_seqs: int = 256
) -> tuple[ClosedLoopPoint, StepTimes]:  # fmt: skip
    """Engines with so many requests in flight in each of their stages, and what their steps take, shape (n,).

    Args:
        max_seqs: for which graphs are recorded, see :func:`tierwise.steps.price.engine_on`.
    """
    one = np.ones(len(flight))
    point = ClosedLoopPoint(kinds.tp, kinds.dp, kinds.ep, flight, one * question.demand.prompt,
                            one * question.demand.output, draft)  # fmt: skip
    plan = Plan(tp=kinds.tp, pp=kinds.pp, dp=kinds.dp, ep=kinds.ep, kv=cache_in(family.kv))
    on = engine_on(family.model, plan, family.system, family.engine, max_seqs=max_seqs)
    return point, step_times(on, point)


def _room(question: Question, family: Family, kinds: Engines, budget: float) -> Array:
    """Requests per rank and stage whose KV fits beside weights, activations and the runtime, shape (kinds, flights)."""
    length = question.demand.prompt + question.demand.output
    # An engine has seats for more than its mean, so that chance finds no seat taken.
    seqs = FLIGHTS + DEVIATIONS * np.sqrt(FLIGHTS)
    tp, pp, dp, ep = (c[:, None] for c in (kinds.tp, kinds.pp, kinds.dp, kinds.ep))
    plan = Plan(tp=tp, pp=pp, dp=dp, ep=ep, kv=cache_in(family.kv))
    how = rules(engine_files.load(family.engine), plan, share=question.freedom.memory, budget=budget, max_seqs=seqs)
    held = room(family.model, family.system, plan, how, length)
    return np.asarray(np.broadcast_to(held, (len(kinds.tp), len(seqs))))


def _endless(client: ClosedLoopClients, tokens: Array) -> ClosedLoopClients:
    """Clients whose requests differ and come for ever: no first wave, no cold start; the rest as the engine does it."""
    one = np.ones_like(tokens)
    return ClosedLoopClients(tokens, one * np.inf, one, client.poll * one, 0.0 * one, client.timeout * one,
                  client.captured * one, 0.0 * one)  # fmt: skip
