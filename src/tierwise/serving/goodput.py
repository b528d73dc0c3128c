"""Goodput over the rate of arrivals: how many requests a second a deployment serves within its targets.

The same requests are played at every rate, their arrivals closer together or further apart, so that rates differ in
nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tierwise.core.errors import BadField
from tierwise.serving.deployment import Deployment
from tierwise.serving.metrics import Metrics, metrics
from tierwise.serving.simulate import simulate
from tierwise.serving.steps import StepPrices
from tierwise.serving.traffic.trace import Trace

Tell = Callable[[int, int], None]

# Rates shown, as multiples of the capacity.
SHOWN = (0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5)
# The capacity is looked for until its bounds are this close (relative), between what a deployment gives at most and
# this share of it.
CLOSE, LOWEST = 0.01, 1.0 / 128.0
ALL_AT_ONCE = 1e6  # times as fast as they are: none waits for another to arrive


@dataclass(frozen=True)
class RatePoint:
    """One rate of arrivals, requests per second, and what the run at it showed."""

    rate: float
    metrics: Metrics

    def holds(self, attainment: float) -> bool:
        """Whether that share of the requests is within both targets, none left, and the queue does not grow."""
        m = self.metrics
        return m.good_share >= attainment and not m.unfinished and not m.load.saturated


@dataclass(frozen=True)
class GoodputCurve:
    """A deployment's curve.

    Attributes:
        points: by rising rate.
        capacity: highest rate (to 1 %) at which ``attainment`` of the requests are within both targets; 0 where none
            does, nan where rates were given and it was not looked for.
        interrupted: the user stopped it; the points are what was played by then.
    """

    deployment: Deployment
    points: tuple[RatePoint, ...]
    capacity: float
    interrupted: bool = False


def goodput(
    requests: Trace, deployment: Deployment, prices: Sequence[StepPrices], ttft: float | None, tpot: float | None,
    *, attainment: float = 0.9, rates: Sequence[float] = (), seed: int = 0, tell: Tell | None = None,
) -> GoodputCurve:  # fmt: skip
    """The curve of one deployment.

    Args:
        requests: played at every rate; their own rate does not matter.
        ttft, tpot: targets in seconds; None asks for nothing.
        attainment: share of the requests that must be within both.
        rates: requests per second to play; none: around the capacity, which is looked for first.
        tell: called with (runs done, runs expected).

    Raises:
        BadField: requests that all arrive at once or by a closed loop, which have no rate.
    """
    arrived = requests.arrival[requests.after < 0]
    span = float(arrived[-1] - arrived[0]) if len(arrived) > 1 else 0.0
    if requests.closed_loop or not span > 0:
        raise BadField(requests.source or "the requests", "arrivals", "no rate", "requests that arrive over time")
    own = (len(arrived) - 1) / span
    known: dict[float, RatePoint] = {}
    expected = len(rates) or 12 + len(SHOWN)

    def at(rate: float) -> RatePoint:
        if rate not in known:
            if tell is not None:
                tell(len(known), max(expected, len(known) + 1))
            run = simulate(requests.scaled(rate / own), deployment, prices, seed=seed)
            if run.interrupted:
                raise KeyboardInterrupt
            known[rate] = RatePoint(rate, metrics(run, ttft, tpot))
        return known[rate]

    found = GoodputCurve(deployment, (), float("nan"))
    try:
        if not rates:
            found = replace(found, capacity=_capacity(at, own, attainment))
            rates = [found.capacity * x for x in SHOWN] if found.capacity else _played(known, own)
        for rate in rates:
            at(rate)
    except KeyboardInterrupt:
        found = replace(found, interrupted=True)
        rates = _played(known, own)
    return replace(found, points=tuple(known[r] for r in sorted(set(rates)) if r in known))


def _played(known: Iterable[float], own: float) -> list[float]:
    """Rates that were played, without that of all at once, which only bounds what can be taken."""
    return sorted(rate for rate in known if rate < own * ALL_AT_ONCE)


def _capacity(at: Callable[[float], RatePoint], own: float, attainment: float) -> float:
    """The highest rate that holds: more arrivals make nothing faster, so it is looked for by halving (in logs)."""
    # What a deployment gives that never waits for requests bounds what it can take.
    most = max(at(own * ALL_AT_ONCE).metrics.request_rate, 1e-9) * 1.5
    low, high = most * LOWEST, most
    if not at(low).holds(attainment):
        return 0.0
    if at(high).holds(attainment):
        return high
    while high / low > 1.0 + CLOSE:
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if at(middle).holds(attainment) else (low, middle)
    return low
