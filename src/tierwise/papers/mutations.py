"""Engines that are wrong in one way each, and which papers notice.

A paper that comes out on any engine says nothing about this one. A mutation makes the engine wrong at one seam (the
machines as they are looked up, the bytes of a weight, the technique as it is applied) without touching a paper; the
suite runs again, and a paper *notices* when the verdict on a claim that counts changes: it leaves its tolerance, or it
comes into it. Papers of which nothing was computed have nothing to notice with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from multiprocessing import get_all_start_methods, get_context

from tierwise.papers.seams import (
    Seam,
    copies,
    elements,
    formats,
    free,
    hosts,
    machines,
    rated,
    unapplied,
    undiffering,
    wires,
    work,
)
from tierwise.papers.suite import judged, load
from tierwise.papers.types import BLIND, OFF, PARTLY, REPRODUCED, UNREAD, Outcome, Paper, counted, standing

# What a claim about time has to notice one of.
TIMES = ("memory", "compute", "links", "host")
# Of claims inside of their tolerance.
CAME_OUT = (REPRODUCED, BLIND, UNREAD)
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
    rates = [Mutation(f"{part} x{factor:g}", part, rated(part, factor)) for part in TIMES for factor in (2.0, 0.5)]
    return (
        *rates,
        Mutation("weight bytes +25%", "weights", (lambda: formats("weight", 1.25), lambda: copies(1.25))),
        Mutation("KV bytes +25%", "kv", (lambda: formats("key", 1.25), lambda: formats("value", 1.25))),
        Mutation("parameters +10%", "parameters", (lambda: elements("Weight", 1.10),)),
        Mutation("capacity -20%", "capacity", (lambda: machines(capacity=0.8),)),
        Mutation(
            "all times",
            "times",
            (
                lambda: machines(memory=0.4, compute=2.5, links=0.4, host=3.0),
                lambda: wires(0.4),
                lambda: hosts(3.0),
            ),
        ),
        Mutation(
            "all counts +25%",
            "counts",
            (lambda: elements("Weight", 1.25), lambda: elements("SequenceState", 1.25), lambda: work(1.25)),
        ),
        Mutation("contrast removed", "contrast", (unapplied, undiffering)),
        Mutation("free technique", "technique", (free,)),
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
    timed = {o.claim.what for o in n.outcomes if o.claim.metric == "time" and o.state in CAME_OUT}
    return [what for what, by in n.claims.items() if what in timed and not any(parts[name] in TIMES for name in by)]


def asking(outcomes: list[Outcome]) -> list[Outcome]:
    """The outcomes that count and were computed."""
    return [o for o in counted(outcomes) if o.claim.compute is not None and o.state in (*CAME_OUT, OFF)]


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
