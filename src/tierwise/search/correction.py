"""What simulated finalists teach about the deployments that were not simulated."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tierwise.search.points import Points
from tierwise.search.question import Question
from tierwise.serving.step_times import Array

# Factors that a run may show: on TTFT, on TPOT, on requests per second and on how many of those an engine can take.
CORRECTION_TERMS = ("ttft", "tpot", "rate", "capacity")
UNKNOWN = float("nan")


@dataclass(frozen=True)
class Correction:
    """Factors on the steady state's TTFT, TPOT, rate and capacity, by variant (v,).

    A variant that was simulated has its own; another one has the mean (of TTFT the least) of those of its group (see
    :func:`groups`) that were, 1 where none was. TTFT and TPOT then are those of the statistic the targets hold for.

    Times and rate are those of an engine that serves what it holds. What a run showed an engine to take at most
    (``capacity``) bounds the rate of more load, and the rest of that load waits.
    """

    ttft: Array
    tpot: Array
    rate: Array
    capacity: Array

    def apply(self, points: Points, question: Question) -> Points:
        """The points with corrected times; a given rate stays what it is."""
        v = points.variant.astype(int)
        ttft, tpot = points.ttft * self.ttft[v], np.maximum(points.tpot * self.tpot[v], points.alone)
        rate, limit = points.rate, points.limit * self.capacity[v]
        if question.demand.kind != "open":
            rate = np.minimum(rate * self.rate[v], limit)
            # Little's law: requests in flight that are not being decoded wait for their first token.
            queue = points.flight / rate - question.demand.output * tpot
            ttft = np.where(points.rate * self.rate[v] > limit, np.maximum(ttft, queue), ttft)
        return replace(points, ttft=ttft, tpot=tpot, rate=rate, capacity=points.capacity * self.capacity[v],
                       limit=limit)  # fmt: skip


def groups(points: Points) -> Array:
    """What is likely wrong in the same way, a number for each row (n,): same machine and engine, same mode, pipelined
    or not, attention by data or not."""
    kinds = 4.0 * (points.prefills > 0) + 2.0 * (points.pp > 1) + (points.dp > 1)
    return np.asarray(8.0 * points.family + kinds)


def correction(points: Points, rows: list[int], factors: list[tuple[float, ...]], v: int) -> Correction:
    """The correction that simulated ``rows`` with their factors (nan: nothing learned) imply for ``v`` variants; of
    several runs of a variant the last counts."""
    out = np.ones((len(CORRECTION_TERMS), v))
    if not rows:
        return Correction(*out)
    group = np.full(v, -1.0)
    group[points.variant.astype(int)] = groups(points)
    variant = points.variant[rows].astype(int)
    for i, found in enumerate(np.log(np.asarray(factors, dtype=float)).T):
        known = np.isfinite(found)
        # How long requests wait for each other differs from deployment to deployment: the least of it is taken over.
        over = np.min if i == 0 else np.mean
        for g in np.unique(group[variant[known]]):
            out[i, group == g] = np.exp(over(found[known & (group[variant] == g)]))
        out[i, variant[known]] = np.exp(found[known])
    return Correction(*out)
