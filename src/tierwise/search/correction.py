"""What simulated finalists teach about the deployments that were not simulated."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tierwise.search.points import Points
from tierwise.serving.work import Array


@dataclass(frozen=True)
class Correction:
    """Factors on the steady state's TTFT, TPOT and rate, by variant (v,).

    A variant that was simulated has its own; another one has the mean of those of its group (see :func:`groups`) that
    were, 1 where none was. TTFT and TPOT then are those of the statistic the targets hold for.
    """

    ttft: Array
    tpot: Array
    rate: Array

    def apply(self, points: Points, fixed: bool) -> Points:
        """The points with corrected times; ``fixed`` where the rate is given and stays."""
        v = points.variant.astype(int)
        rate = points.rate if fixed else points.rate * self.rate[v]
        return replace(points, ttft=points.ttft * self.ttft[v], tpot=points.tpot * self.tpot[v], rate=rate)


def groups(points: Points) -> Array:
    """What is likely wrong in the same way, a number for each row (n,): same machine and engine, same mode, pipelined
    or not, attention by data or not."""
    kinds = 4.0 * (points.prefills > 0) + 2.0 * (points.pp > 1) + (points.dp > 1)
    return np.asarray(8.0 * points.family + kinds)


def correction(points: Points, rows: list[int], factors: list[tuple[float, float, float]], v: int) -> Correction:
    """The correction that simulated ``rows`` with their factors imply for ``v`` variants, a variant's last run
    counting."""
    group = np.full(v, -1.0)
    group[points.variant.astype(int)] = groups(points)
    out = np.ones((3, v))
    if rows:
        variant = points.variant[rows].astype(int)
        log = np.log(np.asarray(factors).T)
        for g in np.unique(group[variant]):
            out[:, group == g] = np.exp(log[:, group[variant] == g].mean(axis=1))[:, None]
        out[:, variant] = np.exp(log)
    return Correction(*out)
