"""Engines that are wrong in one way each, and which papers notice.

A paper that comes out on any engine says nothing about this one. A mutation makes the engine wrong at one seam (the
machines as they are looked up, the bytes of a weight, the technique as it is applied) without touching a paper; the
suite runs again, and a paper *notices* when the verdict on a claim that counts changes: it leaves its tolerance, or it
comes into it. Papers of which nothing was computed have nothing to notice with.

A seam is a function or a property of the engine, replaced wherever the engine holds it while a mutation is on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from multiprocessing import get_all_start_methods, get_context
from typing import Any

from tierwise.core.numerics import Format
from tierwise.papers import overheads
from tierwise.papers.suite import judged, load
from tierwise.papers.types import BLIND, OFF, PARTLY, REPRODUCED, Outcome, Paper, counted, standing

Seam = Callable[[], Any]  # makes a context in which the engine is wrong
# What a claim about time has to notice one of.
TIMES = ("memory", "compute", "links", "host")
# Fewer papers than this that notice a mutation leave what it breaks untested.
FEWEST = 3


@dataclass(frozen=True)
class Mutation:
    """One way to be wrong.

    Attributes:
        name: as printed, such as ``memory x0.5``.
        part: what it breaks: ``memory``, ``compute``, ``links``, ``host``, ``weights``, ``kv``, ``parameters``,
            ``capacity``, ``times``, ``counts``, ``contrast``, ``technique``.
        seams: contexts that are all entered.
    """

    name: str
    part: str
    seams: tuple[Seam, ...]

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The engine, wrong while this lasts."""
        with ExitStack() as stack:
            for seam in self.seams:
                stack.enter_context(seam())
            yield


def mutations() -> tuple[Mutation, ...]:
    """Every mutation, in the order they are printed."""
    rates = [Mutation(f"{part} x{factor:g}", part, _rated(part, factor)) for part in TIMES for factor in (2.0, 0.5)]
    return (
        *rates,
        Mutation("weight bytes +25%", "weights", (lambda: _formats("weight", 1.25), lambda: _copies(1.25))),
        Mutation("KV bytes +25%", "kv", (lambda: _formats("key", 1.25), lambda: _formats("value", 1.25))),
        Mutation("parameters +10%", "parameters", (lambda: _elements("Weight", 1.10),)),
        Mutation("capacity -20%", "capacity", (lambda: _machines(capacity=0.8),)),
        Mutation("all times", "times", (
            lambda: _machines(memory=0.4, compute=2.5, links=0.4, host=3.0), lambda: _wires(0.4), lambda: _hosts(3.0),
        )),
        Mutation(
            "all counts +25%",
            "counts",
            (lambda: _elements("Weight", 1.25), lambda: _elements("State", 1.25), lambda: _work(1.25)),
        ),
        Mutation("contrast removed", "contrast", (_unapplied, _undiffering)),
        Mutation("free technique", "technique", (_free,)),
    )


@dataclass(frozen=True)
class Noticed:
    """What a paper makes of the mutations.

    Attributes:
        paper, outcomes: on the engine as it is.
        by: names of the mutations it notices, in order.
        claims: for each claim that counts and was computed, by what it says: the mutations that change its verdict.
    """

    paper: Paper
    outcomes: list[Outcome]
    by: tuple[str, ...]
    claims: Mapping[str, tuple[str, ...]]


Progress = Callable[[str, int, int], None]  # what was run, how many are done, of how many


def mutated(
    names: Iterable[str], chosen: Iterable[Mutation] | None = None, jobs: int | None = None,
    progress: Progress | None = None,
) -> list[Noticed]:  # fmt: skip
    """Which mutations each paper notices; only papers with a claim that counts and was computed can.

    Args:
        names: slugs or paths; those that are neither reproduced, partly so nor off are left out.
        chosen: mutations; None for all.
        jobs: processes; None for as many as there are processors. Each mutation runs in a process of its own.
    """
    wanted, ways = list(names), list(mutations() if chosen is None else chosen)
    report = progress or (lambda what, done, of: None)
    # The engine as it is runs here first: forks then have what it loaded and compiled.
    plain = _run((dict.fromkeys(wanted), ""))
    found = {name: load(name) for name in wanted}
    base = {name: judged(paper, [(v, "") for v in plain[name]]) for name, paper in found.items()}
    base = {name: o for name, o in base.items() if standing(o).state in (REPRODUCED, PARTLY, OFF)}
    asked = {name: [i for i, o in enumerate(outcomes) if o in asking(outcomes)] for name, outcomes in base.items()}
    report("the engine as it is", 1, len(ways) + 1)
    results: dict[str, dict[str, list[float]]] = {}
    context = get_context("fork" if "fork" in get_all_start_methods() else "spawn")
    with context.Pool(jobs, maxtasksperchild=1) as pool:
        tasks = [pool.apply_async(_run, ((asked, m.name),)) for m in ways]
        for done, (way, task) in enumerate(zip(ways, tasks, strict=True), start=2):
            results[way.name] = task.get()
            report(way.name, done, len(ways) + 1)
    return [
        _noticed(found[name], outcomes, {m.name: results[m.name][name] for m in ways})
        for name, outcomes in base.items()
    ]


def broken_rules(found: list[Noticed]) -> list[str]:
    """What the suite must not be, one sentence each; empty when all is well.

    A reproduced paper notices something; a claim about time that came out and notices none of memory, compute, links
    and host is marked blind, and no other is; and every mutation is noticed by at least :data:`FEWEST` papers.
    """
    out, times = [], ", ".join(TIMES)
    for n in found:
        if standing(n.outcomes).state == REPRODUCED and not n.by:
            out.append(f"{n.paper.slug} is reproduced, whatever is wrong with the engine")
        nothing = blind(n)
        marked = {o.claim.what for o in n.outcomes if o.state == BLIND} & set(n.claims)
        for what in nothing:
            if what not in marked:
                out.append(f"{n.paper.slug}: {what!r} is about time and notices none of {times}: it is blind")
        out += [f"{n.paper.slug}: {what!r} is marked blind and is not" for what in sorted(marked - set(nothing))]
    for m in mutations():
        by = [n.paper.slug for n in found if m.name in n.by]
        if len(by) < FEWEST:
            who = ", ".join(by) or "none"
            out.append(f"{m.name} is noticed by {len(by)} papers ({who}); at least {FEWEST} have to")
    return out


def blind(n: Noticed) -> list[str]:
    """Claims about time that came out and whose verdict no mutation of memory, compute, links or host changes."""
    parts = {m.name: m.part for m in mutations()}
    timed = {o.claim.what for o in n.outcomes if o.claim.metric == "time" and o.state in (REPRODUCED, BLIND)}
    return [what for what, by in n.claims.items() if what in timed and not any(parts[name] in TIMES for name in by)]


def asking(outcomes: list[Outcome]) -> list[Outcome]:
    """The outcomes that count and were computed."""
    return [o for o in counted(outcomes) if o.claim.compute is not None and o.state in (REPRODUCED, BLIND, OFF)]


def _noticed(paper: Paper, base: list[Outcome], results: Mapping[str, list[float]]) -> Noticed:
    before = {o.claim.what: o.claim.judge(o.value) for o in asking(base)}
    claims: dict[str, tuple[str, ...]] = dict.fromkeys(before, ())
    for name, found in results.items():
        for claim, value in zip(paper.claims, found, strict=False):
            if claim.what in before and claim.judge(value) != before[claim.what]:
                claims[claim.what] = (*claims[claim.what], name)
    by = tuple(name for name in results if any(name in names for names in claims.values()))
    return Noticed(paper, base, by, claims)


def _run(task: tuple[Mapping[str, list[int] | None], str]) -> dict[str, list[float]]:
    """The engine's value of every claim of papers: nan where it was not asked for or failed.

    Args:
        task: (by paper, the places of the claims asked for, or None for all; how the engine is wrong, "" for not).
    """
    asked, mutation = task
    chosen = [m for m in mutations() if m.name == mutation]
    out = {}
    with chosen[0].applied() if chosen else nullcontext():
        for name, places in asked.items():
            try:
                claims = load(name).claims
            except Exception:  # whatever a wrong engine breaks, the paper noticed
                if not chosen:
                    raise
                claims = ()
            out[name] = [_survived(c.compute if places is None or i in places else None) for i, c in enumerate(claims)]
    if chosen:
        out = {name: found or [float("nan")] * (1 + max(asked[name] or [0])) for name, found in out.items()}
    return out


def _survived(compute: Callable[[], float] | None) -> float:
    try:
        return float("nan") if compute is None else float(compute())
    except Exception:  # whatever a wrong engine breaks, the claim noticed
        return float("nan")


# ---------------------------------------------------------------- seams


def _rated(part: str, factor: float) -> tuple[Seam, ...]:
    """A machine's bandwidth, arithmetic or links faster by a factor; a host's times longer by it."""
    beside: dict[str, Seam] = {"links": lambda: _wires(factor), "host": lambda: _hosts(factor)}
    machine: Seam = lambda: _machines(**{part: factor})  # noqa: E731
    return (machine, beside[part]) if part in beside else (machine,)


def _machines(
    memory: float = 1.0, compute: float = 1.0, links: float = 1.0, host: float = 1.0, capacity: float = 1.0
) -> Any:
    """Machines as they are looked up, with some of their numbers scaled. Of links all: those between devices, between
    domains, and to the host."""
    from tierwise.machines import load as machines

    def link(x: Any) -> Any:
        return x and replace(x, bandwidth=x.bandwidth * links, latency=x.latency / links)

    def device(d: Any) -> Any:
        tiers = tuple(
            replace(t, bandwidth=t.bandwidth * memory, write_bandwidth=t.write_bandwidth * memory,
                    capacity=t.capacity * capacity) if t.kind == "memory" else t
            for t in d.tiers
        )  # fmt: skip
        engines = tuple(replace(e, rates={k: v * compute for k, v in e.rates.items()}) for e in d.engines)
        dispatch = replace(d.dispatch, eager=d.dispatch.eager * host, graph=d.dispatch.graph * host)
        return replace(d, tiers=tiers, engines=engines, links=tuple(map(link, d.links)), dispatch=dispatch)

    def system(s: Any) -> Any:
        return replace(s, device=device(s.device), scale_up=link(s.scale_up), scale_out=link(s.scale_out))

    return _all(_everywhere(machines.system, system), _everywhere(machines.device, device))


# Of the coefficients of a collective: seconds that pass on the links whatever the size.
_TRIPS = ("start", "step", "middle_extra", "middle_step", "bulk_extra", "bulk_step")


def _wires(factor: float) -> Any:
    """What of links is in no machine's numbers: the latencies of measured protocols."""
    from tierwise import cost
    from tierwise.cost import collective

    def protocols(found: Any) -> Any:
        fit, own = found
        if fit is None:
            return found
        return replace(fit, values={k: v / factor if k in _TRIPS else v for k, v in fit.values.items()}), own

    def bases(e: Any) -> Any:
        return replace(e, collective={k: (base / factor, hop, rate) for k, (base, hop, rate) in e.collective.items()})

    return _all(_everywhere(collective.fitted, protocols), _everywhere(cost.efficiency, bases))


def _hosts(factor: float) -> Any:
    """What the host's software takes: a framework's interpreter, in inference and in training, an engine's steps,
    launches that a kernel was measured with."""
    from tierwise.cost import framework
    from tierwise.cost.types import Efficiency
    from tierwise.steps import corrections as steps

    times = ("gap", "step", "sequence", "chunk", "token", "launch", "request")
    fit = Efficiency.fit

    def slower(self: Efficiency, *args: Any, **options: Any) -> Any:
        found = fit(self, *args, **options)
        if found is None or "host" not in found.values:
            return found
        return replace(found, values={**found.values, "host": found.values["host"] * factor})

    return _all(
        _everywhere(framework.load, lambda f: replace(f, host=f.host * factor)),
        _everywhere(steps.corrections, lambda c: replace(c, **{t: getattr(c, t) * factor for t in times})),
        _attribute(Efficiency, "fit", slower),
        _trainers(lambda how: replace(how, launch=how.launch * factor)),
    )


def _trainers(change: Callable[[Any], Any]) -> Any:
    """Training frameworks, as a step is priced with them: whatever a paper changed of their recipes stays."""
    from tierwise.training import step

    train = step.train_step

    def otherwise(model: Any, system: Any, layout: Any, how: Any, *args: Any, **options: Any) -> Any:
        return train(model, system, layout, change(how), *args, **options)

    return _instead(train, otherwise)


def _formats(name: str, factor: float) -> Any:
    """Bytes of every weight (``weight``) or cached key (``key``) or value (``value``), wherever a pass meets them."""
    from tierwise.models.step import Step

    def wider(f: Format) -> Format:
        return replace(f, bits=f.bits * factor, meta=f.meta * factor)

    old = Step.__dict__[name]
    if isinstance(old, property):
        return _attribute(Step, name, property(lambda step: wider(old.fget(step))))  # type: ignore[misc]
    return _attribute(Step, name, lambda step, role: wider(old(step, role)))


def _copies(factor: float) -> Any:
    """Bytes of the weights that training keeps: the copy it works with and the one the optimizer updates."""

    def wider(how: Any) -> Any:
        r = how.recipe
        return replace(how, recipe=replace(r, parameters=r.parameters * factor, master=r.master * factor))

    return _trainers(wider)


def _elements(kind: str, factor: float) -> Any:
    """Elements of every parameter tensor (``Weight``) or of what a sequence keeps (``State``)."""
    from tierwise.models import types

    scaled = {"Weight": ("elements", "grain"), "State": ("elements", "once")}[kind]
    return _built(getattr(types, kind), scaled, factor)


def _work(factor: float) -> Any:
    """Arithmetic and bytes of every op."""
    from tierwise.program.types import Op, Operand

    old: Any = Operand.bytes
    moved = _attribute(Operand, "bytes", property(lambda operand: old.fget(operand) * factor))
    return _all(moved, _built(Op, ("flops",), factor))


def _unapplied() -> Any:
    """Techniques do nothing."""
    from tierwise.scenario.types import Scenario

    return _attribute(Scenario, "apply", lambda self, *techniques: self)


def _undiffering() -> Any:
    """The changed side of a contrast is its baseline."""
    from tierwise.papers import base

    return _attribute(base, "_differing", lambda baseline, changed: baseline)


def _free() -> Any:
    """Techniques cost nothing beside what they save."""
    from tierwise.scenario.types import Scenario

    def apply(self: Scenario, *techniques: Callable[[Scenario], Scenario]) -> Scenario:
        out = self
        for technique in techniques:
            out = overheads.without(out, technique(out))
        return out

    return _attribute(Scenario, "apply", apply)


@contextmanager
def _all(*contexts: Any) -> Iterator[None]:
    with ExitStack() as stack:
        for context in contexts:
            stack.enter_context(context)
        yield


@contextmanager
def _everywhere(function: Callable[..., Any], change: Callable[[Any], Any]) -> Iterator[None]:
    """What a function returns is changed, in every module of the engine that holds it, also those loaded meanwhile."""

    def replaced(*args: Any, **options: Any) -> Any:
        return change(function(*args, **options))

    with _instead(function, replaced):
        yield


@contextmanager
def _instead(function: Callable[..., Any], other: Callable[..., Any]) -> Iterator[None]:
    """Another function wherever the engine holds this one."""
    _rebind(function, other)
    try:
        yield
    finally:
        _rebind(other, function)


def _rebind(old: object, new: object) -> None:
    for module in [m for name, m in list(sys.modules.items()) if name.partition(".")[0] == "tierwise" and m]:
        for name, value in list(vars(module).items()):
            if value is old:
                setattr(module, name, new)


@contextmanager
def _attribute(owner: Any, name: str, value: object) -> Iterator[None]:
    old = owner.__dict__[name]
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, old)


@contextmanager
def _built(kind: Any, fields: tuple[str, ...], factor: float) -> Iterator[None]:
    """Values of a class come with some of their fields scaled."""
    old = kind.__init__

    def init(self: Any, *args: Any, **given: Any) -> None:
        old(self, *args, **given)
        for name in fields:
            object.__setattr__(self, name, getattr(self, name) * factor)

    with _attribute(kind, "__init__", init):
        yield
