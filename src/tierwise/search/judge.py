"""Which deployments meet the targets, and which is best."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tierwise.search.pareto import front
from tierwise.search.points import Points
from tierwise.search.question import Question
from tierwise.serving.step_times import Array


def feasible(
    question: Question, points: Points, slower: tuple[Array | float, Array | float] = (1.0, 1.0)
) -> NDArray[np.bool_]:  # fmt: skip
    """Whether each meets targets and budget, bool of shape (n,); ``slower`` multiplies TTFT and TPOT first."""
    t = question.targets
    ok = (points.ttft * slower[0] <= t.ttft) & (points.tpot * slower[1] <= t.tpot)
    if question.demand.kind == "open":
        ok = ok & (points.capacity >= points.rate * question.demand.peak)
    return np.asarray(ok & (points.rent <= question.budget * (1.0 + 1e-9)))


def misses(question: Question, points: Points) -> Array:
    """By what factor the worst target is missed (n,); 1 or less where all are met."""
    t = question.targets
    worst = np.maximum(np.maximum(points.ttft / t.ttft, points.tpot / t.tpot), points.rent / question.budget)
    if question.demand.kind == "open":
        worst = np.maximum(worst, points.rate * question.demand.peak / np.maximum(points.capacity, 1e-12))
    return np.asarray(worst)


def score(question: Question, points: Points, rate: Array | None = None) -> Array:
    """The objective (n,), smaller is better.

    ``cost``: dollars an hour for a given load, dollars per request where the plan fills the machine.
    ``throughput``: seconds per request of the whole deployment, for a given rate those it could take within the
    targets. ``latency``: seconds of a whole request.

    Args:
        rate: requests per second, where simulated ones are known.
    """
    served = points.rate if rate is None else rate
    if question.objective == "latency":
        return points.latency(question.demand.output)
    if question.objective == "throughput" and question.demand.kind == "open":
        return np.asarray(1.0 / np.maximum(points.capacity, 1e-12))
    if question.objective == "throughput":
        return np.asarray(1.0 / np.maximum(served, 1e-12))
    return cost(question, points, served)


def cost(question: Question, points: Points, rate: Array | None = None) -> Array:
    """What is paid: dollars an hour for a given load, else dollars per million tokens made."""
    if question.demand.kind != "free":
        return points.rent * 3600.0
    served = points.rate if rate is None else rate
    return np.asarray(points.rent / np.maximum(served, 1e-12) / question.demand.output * 1e6)


def on_front(question: Question, points: Points, among: NDArray[np.bool_] | None = None) -> NDArray[np.intp]:
    """Rows on the Pareto front of cost against speed per user, of what keeps the TTFT target and the budget."""
    usable = (points.ttft <= question.targets.ttft) & np.isfinite(points.ttft)
    usable &= points.rent <= question.budget * (1.0 + 1e-9)
    if among is not None:
        usable &= among
    if question.demand.kind == "open":
        usable &= points.rate <= points.limit
    return front(cost(question, points), np.where(usable, 1.0 / points.tpot, np.nan))


def order(question: Question, points: Points) -> NDArray[np.intp]:
    """Rows from best to worst; of equal scores the faster answers first, then the simpler engine."""
    latency = points.latency(question.demand.output)
    return np.lexsort((points.tokens, latency, np.round(score(question, points), 12)))
