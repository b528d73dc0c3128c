"""What would help a plan that makes a model fit: the same question with one thing changed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tierwise.core.errors import TierwiseError
from tierwise.evaluation import evaluate
from tierwise.machines import system
from tierwise.machines.types import System
from tierwise.search.fit import FitAnswer, FitCandidate, FitQuestion, plan_fit, scenario_of

# How far numbers of a computer are moved to see what they are worth.
TWICE = 2.0
WORTH = 1.02  # less is not told


@dataclass(frozen=True)
class Help:
    """One change.

    Attributes:
        what: ``bandwidth``, ``link``, ``card``, ``bits``, ``disk`` or ``memory``, to be worded in reports.
        rate: tokens per second with it (nan where it is not priced). ``amount``: of the change, in SI units.
    """

    what: str
    rate: float
    amount: float
    candidate: FitCandidate | None = None


def helps(a: FitAnswer) -> list[Help]:
    """Changes that make the best plan faster, or one fit at all, the most useful first."""
    if a.best is None:
        return _to_fit(a)
    out = [*_machines(a.question, a.best), *_narrower(a)]
    return sorted((h for h in out if h.rate > WORTH * a.best.rate), key=lambda h: -h.rate)


def _machines(q: FitQuestion, best: FitCandidate) -> list[Help]:
    out = []
    for what, other in (("bandwidth", _faster_memory(q.machine)), ("link", _faster_link(q.machine))):
        if other is not None and not best.choice.whole:
            r = evaluate(scenario_of(replace(q, machine=other), best.choice))
            out.append(Help(what, float(r.decode_throughput), TWICE))
    more = _one_more(q)
    if more is not None and not best.choice.whole:
        c = best.choice
        found = plan_fit(replace(more, weights=(c.weights,) if c.weights else (), kv=(c.kv,))).best
        if found is not None:
            out.append(Help("card", found.rate, float(more.machine.count), found))
    return out


def _narrower(a: FitAnswer) -> list[Help]:
    """The widest format below the least bits that is faster, and the widest that the device holds alone."""
    assert a.best is not None
    faster = [c for c in a.narrower if c.rate > a.best.rate]
    alone = [c for c in faster if c.choice.whole and not a.best.choice.whole]
    picked = faster[:1] + [c for c in alone[:1] if c is not faster[0]]
    return [Help("bits", c.rate, c.choice.bits, c) for c in picked]


def _to_fit(a: FitAnswer) -> list[Help]:
    """What makes something fit: fewer bits, another card, more memory beside it, a disk."""
    q = a.question
    out = [Help("bits", c.rate, c.choice.bits, c) for c in a.narrower[:1]]
    more = _one_more(q)
    if more is not None:
        found = plan_fit(more).best
        if found is not None:
            out.append(Help("card", found.rate, float(more.machine.count), found))
    for c in a.missed[:1]:
        m = c.result.memory
        over = {n: float(np.ravel(m.elsewhere.get(n, 0.0))[0]) - float(np.ravel(room)[0])
                for n, room in m.room_elsewhere.items()}  # fmt: skip
        if over.get("host", 0.0) > 0.0:
            out.append(Help("memory", float("nan"), over["host"] * q.machine.per_node, c))
    if not q.disk:
        out.append(Help("disk", float("nan"), 0.0))
    return out


def _faster_memory(machine: System) -> System | None:
    """The host's memory twice as fast."""
    host = machine.host
    if host is None or host.cpu is None:
        return None
    cpu = host.cpu
    tiers = tuple(
        replace(t, bandwidth=TWICE * t.bandwidth, write_bandwidth=TWICE * t.write_bandwidth) if t.kind == "memory"
        else t
        for t in cpu.tiers
    )
    return replace(machine, host=replace(host, bandwidth=TWICE * host.bandwidth, cpu=replace(cpu, tiers=tiers)))


def _faster_link(machine: System) -> System | None:
    """The link to the host twice as fast."""
    if machine.device.link("host") is None:
        return None
    links = tuple(replace(x, bandwidth=TWICE * x.bandwidth, back=TWICE * x.back) if x.kind == "host" else x
                  for x in machine.device.links)  # fmt: skip
    return machine.with_device(links=links)


def _one_more(q: FitQuestion) -> FitQuestion | None:
    """The same computer with one more card; None of a machine that is its own computer."""
    if q.machine.host is None or q.machine.host.cpu is None:
        return None
    count = q.machine.count + 1
    try:
        base = system(f"{count}x{q.machine.device.name}")
    except TierwiseError:
        return None
    if base.nodes > 1:
        return None
    return replace(q, machine=replace(base, name=f"{q.machine.name} and one card more", host=q.machine.host))
