"""How an answer moves with what went into it: every input a little lower and higher, in one evaluation.

Each input of the traffic and each number of the machine is an array in which two elements differ from the rest, so a
sweep prices all of them at once. Fitted coefficients are moved to the ends of their own intervals, as the answer's
interval is made (:mod:`tierwise.core.intervals`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from tierwise.core.errors import TierwiseError
from tierwise.core.num import Num
from tierwise.evaluation import evaluate_resolved
from tierwise.machines.types import Link, System, Tier
from tierwise.result import Phase, Result, changes
from tierwise.scenario.types import Resolved, Scenario

BY = 0.1
# What moves; each is a property of a result, in SI units.
ANSWERS = ("time", "ttft", "tpot", "throughput", "energy")
_HOST = ("gap", "gap_sequence", "gap_expert", "step", "sequence", "chunk", "token", "launch")

Ends: TypeAlias = tuple[float, float]
Floats: TypeAlias = NDArray[np.float64]
Put: TypeAlias = Callable[[Resolved, Floats], Resolved]


@dataclass(frozen=True)
class Moved:
    """What one input does to the answer.

    Attributes:
        name: ``prompt``, ``hbm bandwidth``, ``tensor engine rate``, ``time of the host``, an error's group.
        kind: ``traffic``, ``machine`` or ``error``.
        usual: its value in SI units; nan for an error, and for what is moved by a factor as a whole.
        low, high: the values that it was moved to; of errors and of what has no one value, factors.
        answers: by name (:data:`ANSWERS`), its value at the low and at the high end; nan where there is none.
    """

    name: str
    kind: str
    usual: float
    low: float
    high: float
    answers: Mapping[str, Ends]

    def elasticity(self, of: str, base: float) -> float:
        """Per cent that an answer moves for one per cent more of the input, by its high end.

        Args:
            of: the answer. ``base``: its value where nothing is moved.
        """
        usual = 1.0 if np.isnan(self.usual) else self.usual
        if not (self.high > usual > 0.0 and base > 0.0):
            return float("nan")
        return float(np.log(self.answers[of][1] / base) / np.log(self.high / usual))


@dataclass(frozen=True)
class _Input:
    """An input that can be moved: where it stands, and how arrays are put in its place."""

    name: str
    kind: str
    usual: float
    ends: Ends
    put: Put


def sensitivity(scenario: Scenario | Resolved, by: float = BY) -> tuple[Moved, ...]:
    """Every input of a scalar scenario moved down and up, those that move the time most first.

    Args:
        by: share by which an input is moved; whole numbers (tokens, requests) by the nearest whole number, at least 1.

    Raises:
        TierwiseError: the scenario is a sweep already.
    """
    r = scenario if isinstance(scenario, Resolved) else scenario.resolved()
    base = evaluate_resolved(r)
    if np.size(base.time) != 1 or np.size(base.memory.peak) != 1:
        raise TierwiseError("sensitivity: scalar scenarios only; this one is a sweep already")
    inputs = [*_traffic(r, by), *_machine(r, by)]
    count = 2 * len(inputs)
    swept = r
    for i, x in enumerate(inputs):
        values = np.full(count, x.usual)
        values[2 * i : 2 * i + 2] = x.ends
        swept = x.put(swept, values)
    found = _answers(evaluate_resolved(swept), count)
    out = [
        Moved(x.name, x.kind, x.usual if x.kind == "traffic" else float("nan"), *x.ends,
              {k: (float(v[2 * i]), float(v[2 * i + 1])) for k, v in found.items()})
        for i, x in enumerate(inputs)
    ]  # fmt: skip
    out += [*_host(base, by), *_errors(base)]
    time = float(base.time)
    return tuple(sorted(out, key=lambda m: -max(abs(np.log(x / time)) for x in m.answers["time"])))


def _answers(r: Result, count: int) -> dict[str, Floats]:
    return {k: np.broadcast_to(np.asarray(getattr(r, k), dtype=float), (count,)) for k in ANSWERS}


# ---------------------------------------------------------------- what can be moved


def _traffic(r: Resolved, by: float) -> Iterator[_Input]:
    """Whole numbers of the traffic; a batch of as many as fit follows from the memory."""
    generates = r.model.task == "generate"
    for name in ("prompt", "output", "batch") if generates else ("batch",):
        value = getattr(r.traffic, name)
        if isinstance(value, str):
            continue
        usual = float(value)
        step = max(round(by * usual), 1.0)

        def put(s: Resolved, values: Floats, name: str = name) -> Resolved:
            return replace(s, traffic=replace(s.traffic, **{name: values}))  # type: ignore[arg-type]

        yield _Input(name, "traffic", usual, (max(usual - step, 1.0), usual + step), put)


def _machine(r: Resolved, by: float) -> Iterator[_Input]:
    """Numbers of the machine as one factor each: bandwidths, rates, links, gaps between kernels, capacity."""
    ends = (1.0 - by, 1.0 + by)
    device = r.machine.device
    for tier in device.tiers:
        if float(tier.bandwidth) > 0:
            yield _Input(f"{tier.name} bandwidth", "machine", 1.0, ends, _of_tier(tier.name, _faster))
        if float(tier.latency) > 0:
            yield _Input(f"{tier.name} latency", "machine", 1.0, ends, _of_tier(tier.name, _slower))
        if tier.kind == "memory":
            yield _Input(f"{tier.name} capacity", "machine", 1.0, ends, _of_tier(tier.name, _larger))
    for engine in device.engines:
        yield _Input(f"{engine.name} engine rate", "machine", 1.0, ends, _of_engine(engine.name))
    links = (("scale-up", r.machine.scale_up), ("scale-out", r.machine.scale_out), ("host", device.link("host")))
    named = [x.name for _, x in links if x is not None]
    for kind, link in links:
        if link is not None:
            name = link.name if named.count(link.name) == 1 else f"{link.name} ({kind})"
            yield _Input(f"{name} bandwidth", "machine", 1.0, ends, _of_link(kind, _wider))
            if kind != "host":
                yield _Input(f"{name} latency", "machine", 1.0, ends, _of_link(kind, _later))
    yield _Input("gaps between kernels", "machine", 1.0, ends, _gaps)


def _faster(t: Tier, x: Floats) -> Tier:
    return replace(t, bandwidth=t.bandwidth * x, write_bandwidth=t.write_bandwidth * x)  # type: ignore[arg-type]


def _slower(t: Tier, x: Floats) -> Tier:
    return replace(t, latency=t.latency * x)  # type: ignore[arg-type]


def _larger(t: Tier, x: Floats) -> Tier:
    return replace(t, capacity=t.capacity * x)  # type: ignore[arg-type]


def _wider(link: Link, x: Floats) -> Link:
    return replace(link, bandwidth=link.bandwidth * x, back=link.back * x)  # type: ignore[arg-type]


def _later(link: Link, x: Floats) -> Link:
    return replace(link, latency=link.latency * x)  # type: ignore[arg-type]


def _of_tier(name: str, change: Callable[[Tier, Floats], Tier]) -> Put:
    def put(s: Resolved, x: Floats) -> Resolved:
        tiers = tuple(change(t, x) if t.name == name else t for t in s.machine.device.tiers)
        return replace(s, machine=s.machine.with_device(tiers=tiers))

    return put


def _of_engine(name: str) -> Put:
    def put(s: Resolved, x: Floats) -> Resolved:
        engines = tuple(
            replace(e, rates={k: v * x for k, v in e.rates.items()}) if e.name == name else e  # type: ignore[misc]
            for e in s.machine.device.engines
        )
        return replace(s, machine=s.machine.with_device(engines=engines))

    return put


def _of_link(kind: str, change: Callable[[Link, Floats], Link]) -> Put:
    def put(s: Resolved, x: Floats) -> Resolved:
        m: System = s.machine
        own = m.with_device(links=tuple(change(n, x) if n.kind == kind else n for n in m.device.links))
        if kind == "scale-up" and m.scale_up is not None:
            own = replace(own, scale_up=change(m.scale_up, x))
        if kind == "scale-out" and m.scale_out is not None:
            own = replace(own, scale_out=change(m.scale_out, x))
        return replace(s, machine=own)

    return put


def _gaps(s: Resolved, x: Floats) -> Resolved:
    d = s.machine.device.dispatch
    dispatch = replace(d, eager=d.eager * x, graph=d.graph * x)  # type: ignore[arg-type]
    return replace(s, machine=s.machine.with_device(dispatch=dispatch))


# ---------------------------------------------------------------- what is fitted


def _host(base: Result, by: float) -> Iterator[Moved]:
    """What the engine and its host add to steps, all of it slower or faster."""

    def at(factor: float) -> Result:
        def slower(p: Phase) -> Phase:
            c = p.cost.corrections
            fixed = replace(c, **{k: getattr(c, k) * factor for k in _HOST})
            return replace(p, cost=replace(p.cost, corrections=fixed))

        return replace(base, phases=tuple(slower(p) for p in base.phases))

    if all(getattr(p.cost.corrections, k) == 0.0 for p in base.phases for k in _HOST):
        return
    ends = [_answers(at(1.0 + way * by), 1) for way in (-1.0, 1.0)]
    both = {k: (float(ends[0][k][0]), float(ends[1][k][0])) for k in ANSWERS}
    yield Moved("time of the host", "machine", float("nan"), 1.0 - by, 1.0 + by, both)


def _errors(base: Result) -> Iterator[Moved]:
    """Each error at its own ends; energy is left as it is."""
    of = {"time": base.phases, "ttft": [p for p in base.phases if p.name != "decode"],
          "tpot": [p for p in base.phases if p.name == "decode"]}  # fmt: skip
    moved = {k: changes(phases) for k, phases in of.items()}
    for group, (low, high) in moved["time"].items():
        answers = {k: _ends(getattr(base, k), moved[k].get(group, (0.0, 0.0))) for k in of}
        rate = _ends(base.throughput, (-float(low), -float(high)))
        energy = float(base.energy)
        factors = _ends(1.0, (low, high))
        yield Moved(group, "error", float("nan"), *factors, {**answers, "throughput": rate, "energy": (energy, energy)})


def _ends(usual: Num, change: tuple[Num, Num]) -> Ends:
    return float(usual * np.exp(change[0])), float(usual * np.exp(change[1]))
