"""Which deployments meet the targets, and which is best."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tierwise.search.pareto import front
from tierwise.search.points import Points
from tierwise.search.question import Question
from tierwise.serving.step_times import Array


def feasible(
    question: Question, points: Points, slower: tuple[Array | float, Array | float] | None = None
) -> NDArray[np.bool_]:  # fmt: skip
    """Whether each meets targets and budget, bool of shape (n,), with the times at the confidence asked for.

    Args:
        slower: other factors on TTFT and TPOT than those.
    """
    t = question.targets
    late, slow = (points.slow_ttft, points.slow_tpot) if slower is None else slower
    ok = (points.ttft * late <= t.ttft) & (points.tpot * slow <= t.tpot)
    if question.demand.kind == "open":
        ok = ok & (points.capacity >= points.rate * question.demand.peak)
    return np.asarray(ok & (points.rent <= question.budget * (1.0 + 1e-9)))


def misses(question: Question, points: Points) -> Array:
    """By what factor the worst target is missed (n,); 1 or less where all are met."""
    t = question.targets
    sure = points.surely
    worst = np.maximum(np.maximum(sure.ttft / t.ttft, sure.tpot / t.tpot), points.rent / question.budget)
    if question.demand.kind == "open":
        worst = np.maximum(worst, points.rate * question.demand.peak / np.maximum(points.capacity, 1e-12))
    return np.asarray(worst)


def score(question: Question, points: Points, rate: Array | None = None) -> Array:
    """The objective (n,), smaller is better, with the times at the confidence asked for.

    ``cost``: dollars an hour for a given load, dollars per request where the plan fills the machine.
    ``throughput``: seconds per request of the whole deployment, for a given rate those it could take within the
    targets. ``latency``: seconds of a whole request.

    Args:
        rate: requests per second, where simulated ones are known.
    """
    output, sure = question.demand.output, points.surely
    served = (points.rate if rate is None else rate) * _share(points, output)
    if question.objective == "latency":
        return sure.latency(output)
    if question.objective == "throughput" and question.demand.kind == "open":
        return np.asarray(1.0 / np.maximum(points.capacity, 1e-12))
    if question.objective == "throughput":
        return np.asarray(1.0 / np.maximum(served, 1e-12))
    return cost(question, points, served)


def _share(points: Points, output: float) -> Array:
    """Requests per second at that confidence over those expected, with as many in flight."""
    sure = points.surely
    with np.errstate(invalid="ignore"):  # what never answers does not, however sure
        return np.asarray((points.ttft + output * points.tpot) / (sure.ttft + output * sure.tpot))


def cost(question: Question, points: Points, rate: Array | None = None) -> Array:
    """What is paid: dollars an hour for a given load, else dollars per million tokens made."""
    if question.demand.kind != "free":
        return points.rent * 3600.0
    served = points.rate if rate is None else rate
    return np.asarray(points.rent / np.maximum(served, 1e-12) / question.demand.output * 1e6)


def on_front(question: Question, points: Points, among: NDArray[np.bool_] | None = None) -> NDArray[np.intp]:
    """Rows on the Pareto front of cost against speed per user, of what keeps the TTFT target and the budget, all with
    the times at the confidence asked for, as the answer is chosen."""
    sure = points.surely
    usable = (sure.ttft <= question.targets.ttft) & np.isfinite(sure.ttft)
    usable &= points.rent <= question.budget * (1.0 + 1e-9)
    if among is not None:
        usable &= among
    if question.demand.kind == "open":
        usable &= points.rate <= points.limit
    paid = cost(question, points, points.rate * _share(points, question.demand.output))
    return front(paid, np.where(usable, 1.0 / sure.tpot, np.nan))


def order(question: Question, points: Points) -> NDArray[np.intp]:
    """Rows from best to worst; of equal scores the one faster for each user first, then the simpler engine."""
    found = score(question, points)
    # To nine digits, whatever the unit: what differs by less is a tie.
    scale = 10.0 ** np.floor(np.log10(np.maximum(np.abs(found), 1e-300)))
    sure = points.surely
    return np.lexsort((points.tokens, sure.latency(question.demand.output), sure.tpot,
                       np.where(np.isfinite(found), np.round(found / scale, 9) * scale, found)))  # fmt: skip
