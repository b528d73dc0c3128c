"""The simulator has the last word: finalists play the traffic request by request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tierwise.search.constants import CONSTANTS
from tierwise.search.question import STATISTICS, Question
from tierwise.serving.deployment import Deployment
from tierwise.serving.outcome import REJECTED
from tierwise.serving.step_times import Array
from tierwise.serving.traffic.trace import Trace, trace

# Lengths of synthetic requests lie this far around their mean.
SPREAD = CONSTANTS["traffic.spread"]
# Requests an open-loop run plays, in multiples of those in flight, and at least; and those before any counts.
DEPTH, LEAST = CONSTANTS["traffic.depth"], int(CONSTANTS["traffic.least"])
WARM_CLOSED, WARM_OPEN = CONSTANTS["traffic.warm_closed"], CONSTANTS["traffic.warm_open"]


@dataclass(frozen=True)
class Simulated:
    """What a run showed.

    Attributes:
        ttft, tpot: seconds by statistic; ``rate``: requests answered per second; ``requests``: how many counted.
        keeps_up: every request was answered, at the rate they came.
        rejected: requests turned away that the model's context has room for.
    """

    ttft: Mapping[str, float]
    tpot: Mapping[str, float]
    rate: float
    requests: int
    keeps_up: bool
    rejected: int = 0

    def meets(self, question: Question, slower: tuple[float, float] = (1.0, 1.0)) -> bool:
        """Whether it keeps up within the targets, with its times so many times as long."""
        t, (late, slow) = question.targets, slower
        return (
            self.keeps_up
            and not self.rejected
            and self.ttft[t.statistic] * late <= t.ttft
            and self.tpot[t.statistic] * slow <= t.tpot
        )


def can_simulate() -> bool:
    """Whether what the simulator is compiled with is installed."""
    try:
        import numba  # noqa: F401
    except ImportError:
        return False
    return True


def simulated(question: Question, deployment: Deployment, flight: float) -> Simulated:
    """Play the question's traffic on a deployment that is expected to hold ``flight`` requests.

    Raises:
        KeyboardInterrupt: the user stopped it; half a run says nothing.
    """
    from tierwise.serving.simulate import simulate

    requests, first, last = traffic(question, flight)
    run = simulate(requests, deployment, seed=question.seed)
    if run.interrupted:
        raise KeyboardInterrupt
    r = run.requests
    away = r.state == REJECTED
    rejected = max(int(away.sum()) - question.demand.too_long, 0)
    done = np.isfinite(r.last) & ~away
    index = np.arange(len(r.arrival))
    counted = done & (index >= first) & (index < last)
    if not counted.any():
        never = dict.fromkeys(STATISTICS, float("inf"))
        return Simulated(never, never, 0.0, 0, False, rejected)
    ttft = (r.first - r.arrival)[counted]
    many = r.made[counted] > 1
    tpot = ((r.last - r.first)[counted] / np.maximum(r.made[counted] - 1, 1))[many]
    up = _keeps_up(r.arrival[~away], r.last[~away], done[~away])
    rate = (
        question.demand.rate if up and question.demand.kind == "open" else _rate(requests, r.arrival, r.last, counted)
    )
    return Simulated(_statistics(ttft), _statistics(tpot), rate, int(counted.sum()), up, rejected)


def played(question: Question, flight: float) -> int:
    """Requests that a run plays."""
    demand = question.demand
    if demand.trace is not None:
        return len(demand.trace)
    if demand.kind != "open":
        held = max(int(np.ceil(flight)), 1)
        return int((WARM_CLOSED + 1.0) * held) + max(held, LEAST // 2)
    return max(int(DEPTH * flight), LEAST)


def traffic(question: Question, flight: float) -> tuple[Trace, int, int]:
    """(what is played, first request that counts, the one after the last)."""
    demand = question.demand
    if demand.trace is not None:
        return demand.trace, 0, len(demand.trace)
    rng = np.random.default_rng(question.seed)
    held = max(int(np.ceil(flight)), 1)
    closed = demand.kind != "open"
    n = played(question, flight)

    def lengths(mean: float) -> Array:
        return np.maximum(np.round(mean * rng.uniform(1.0 - SPREAD, 1.0 + SPREAD, n)), 1.0)

    prompt, output = lengths(demand.prompt), lengths(demand.output)
    if closed:
        # The first wave arrives at once, and the last empties the engines: neither is the steady state.
        return replace(trace(np.zeros(n), prompt, output), closed_loop=held), int(WARM_CLOSED * held), n - held
    arrival = np.cumsum(rng.exponential(1.0 / demand.rate, n))
    return trace(arrival, prompt, output), int(WARM_OPEN * n), n


def _rate(requests: Trace, arrival: Array, last: Array, counted: NDArray[np.bool_]) -> float:
    """Requests answered per second: by Little's law where a number is kept in flight (answers come in waves there),
    else those that ended while others still came."""
    if requests.closed_loop:
        return float(requests.closed_loop / np.mean((last - arrival)[counted]))
    start, end = float(np.min(arrival[counted])), float(np.max(arrival))
    inside = (last > start) & (last <= end)
    before = (arrival <= start) & (last > start)
    came = (arrival > start) & (arrival <= end)
    # What was in the system at the start is answered in place of what still is at the end.
    return float(min(int(inside.sum()), int(came.sum()) + int(before.sum())) / max(end - start, 1e-9))


def _statistics(values: Array) -> dict[str, float]:
    if not len(values):
        return dict.fromkeys(STATISTICS, 0.0)
    found = np.percentile(values, [50, 90, 95, 99])
    return dict(zip(STATISTICS, [float(np.mean(values)), *map(float, found)], strict=True))


def _keeps_up(arrival: Array, last: Array, done: NDArray[np.bool_]) -> bool:
    """Every request ends, and from the middle of the arrivals to their end hardly more came than left.

    What is in the system varies by chance, about as the root of its number.
    """
    if not done.all() or len(arrival) < 8:
        return bool(done.all())
    middle, end = np.quantile(arrival, 0.5), np.max(arrival)
    came = int(((arrival > middle) & (arrival <= end)).sum())
    left = int(((last > middle) & (last <= end)).sum())
    inside = int(((arrival <= middle) & (last > middle)).sum())
    chance = CONSTANTS["keeps_up.deviations"] * np.sqrt(inside + 1.0)
    return bool(came - left <= CONSTANTS["keeps_up.share"] * came + chance)
