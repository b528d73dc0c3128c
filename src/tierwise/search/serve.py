"""Plan serving: price the whole space as arrays, keep what meets the targets, let the simulator confirm the best."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tierwise.search.answer import Answer, Choice
from tierwise.search.curves import Curves, Known, curves_of
from tierwise.search.events import confirmed
from tierwise.search.family import families_of
from tierwise.search.finalists import finalists
from tierwise.search.judge import feasible, misses, on_front, order, score
from tierwise.search.nearest import needs
from tierwise.search.points import Points, evaluated
from tierwise.search.question import Question, check
from tierwise.search.why import alternatives, binding, changes, rival

Tell = Callable[[str, int, int], None]  # what is done, how much of it, of how much (0: nobody knows)


def plan(question: Question, *, confirm: bool = True, tell: Tell | None = None) -> Answer:
    """The best deployment for a question, with what was beside it.

    Ctrl-C while finalists are simulated ends that, and the answer is what was known by then (``interrupted``).

    Args:
        confirm: finalists are simulated; without, the answer is that of the steady state.
        tell: called with what is being done.

    Raises:
        BadField: a question that cannot be asked. Targets nobody can meet are an answer.
    """
    check(question)
    started = time.perf_counter()
    families = families_of(question)
    told = tell or (lambda what, done, total: None)
    curves: list[list[Curves]] = []
    known: Known = {}
    for i, family in enumerate(families):
        told(f"pricing {family.device}", i, len(families))
        curves.append(curves_of(question, family, known))
    found = evaluated(question, curves)
    ok = feasible(question, found)
    count = sum(c.ttft.size for several in curves for c in several)
    kinds = sum(len(c.tokens) for several in curves for c in several)
    answer = Answer(question, families, found, ok, score(question, found), None, False, priced=count, variants=kinds)
    met = bool(ok.any())
    if not met and question.demand.kind != "free":
        answer = replace(answer, most=_most(question, curves))
    if not len(found):
        # Nothing takes this load: the nearest is what takes the most.
        if answer.most is not None:
            free = _free(question)
            other = answer.most[0]
            answer = replace(answer, points=other, feasible=np.zeros(len(other), dtype=bool), score=score(free, other),
                             best=Choice(answer.most[1]))  # fmt: skip
        else:
            answer = replace(answer, needs=needs(question, families))
        spent = {"pricing": time.perf_counter() - started, "simulation": 0.0}
        return replace(answer, alternatives=alternatives(answer), seconds=spent)
    if met:
        answer = replace(answer, met=True, best=Choice(int(next(i for i in order(question, found) if ok[i]))))
    else:
        answer = replace(answer, best=Choice(int(np.argmin(misses(question, found)))))
    priced = time.perf_counter() - started
    if confirm:
        answer = confirmed(finalists(answer, tell=told))
    simulated = time.perf_counter() - started - priced
    answer = replace(answer, seconds={"pricing": priced, "simulation": simulated})
    answer = replace(answer, binding=binding(answer), alternatives=alternatives(answer), front=_front(answer),
                     rival=rival(answer))  # fmt: skip
    uncached = None
    if question.demand.shared > 0:
        plain = replace(question, demand=replace(question.demand, shared=0.0))
        known = {}
        uncached = (plain, [curves_of(plain, f, known) for f in families])
    return replace(answer, changes=changes(answer, curves, uncached))


def _front(answer: Answer) -> NDArray[np.intp]:
    """The front of what was simulated, so that nothing is on it that the answer was not judged by; where nothing was
    simulated, of what the steady state says."""
    among = None
    if answer.finalists:
        among = np.zeros(len(answer.known), dtype=bool)
        among[[c.row for c in answer.finalists]] = True
    found = on_front(answer.question, answer.known, among)
    if not answer.met or answer.best is None or answer.best.row in found:
        return found
    # What a run can tell apart is within what it tells: the answer is as good as what would be in its place.
    rows = np.append(found, answer.best.row)
    return np.asarray(rows[np.argsort(answer.known.tpot[rows])[::-1]])


def _free(question: Question) -> Question:
    """The same without a given load, for the most throughput."""
    demand = replace(question.demand, rate=float("nan"), concurrency=float("nan"), trace=None)
    return replace(question, demand=demand, objective="throughput")


def _most(question: Question, curves: list[list[Curves]]) -> tuple[Points, int] | None:
    """Where the most requests per second are served within the targets, or nearest to them."""
    free = _free(question)
    found = evaluated(free, curves)
    if not len(found):
        return None
    ok = feasible(free, found)
    ranked = order(free, found)
    return found, int(next((i for i in ranked if ok[i]), np.argmin(misses(free, found))))
