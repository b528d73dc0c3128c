"""Runs made by hand: a queue with so many seats and a steady time per token, whose right answers are known."""

from __future__ import annotations

import heapq
from dataclasses import replace

import numpy as np

from tests.report.cases import llm, machine
from tierwise.scenario.types import Plan
from tierwise.serving.deployment import Deployment, Replicas, Settings
from tierwise.serving.outcome import DONE, REJECTED, Requests, Series, SimulatedRun, Steps
from tierwise.serving.traffic.trace import Trace, trace

KV_TOKENS = 400_000.0


def deployment(seats: int = 4, count: int = 1, **settings: object) -> Deployment:
    group = Replicas(machine(), Plan(), count=count, settings=Settings(max_seqs=seats, **settings))  # type: ignore[arg-type]
    return Deployment(llm(), (group,))


def poisson(n: int, rate: float, seed: int = 0, prompt: int = 100, output: int = 50, **other: object) -> Trace:
    rng = np.random.default_rng(seed)
    arrival = np.cumsum(rng.exponential(1.0 / rate, n))
    lengths = [rng.integers(1, 2 * x, n) for x in (prompt, output)]
    return trace(arrival, *lengths, **other)


def run(t: Trace, seats: int = 4, *, first: float = 0.1, each: float = 0.01, too_long: int = 10**9,
        bins: int = 200, **totals: float) -> SimulatedRun:  # fmt: skip
    """First come, first served by ``seats`` servers: ``first`` seconds to the first token, ``each`` for each other."""
    n = len(t)
    rejected = t.prompt + t.output > too_long
    arrival = t.arrival.copy()
    scheduled = np.full(n, np.nan)
    free = [0.0] * seats
    if t.closed_loop:
        arrival[:] = 0.0
    for i in np.flatnonzero(~rejected):
        at = heapq.heappop(free)
        if t.closed_loop and i >= t.closed_loop:
            arrival[i] = at
        scheduled[i] = max(at, arrival[i])
        heapq.heappush(free, scheduled[i] + first + each * (t.output[i] - 1))
    begun = scheduled + first
    last = begun + each * (t.output - 1)
    made = np.where(rejected, 0, t.output)
    zero = np.zeros(n, np.int64)
    requests = Requests(
        arrival, scheduled, begun, last, np.where(made > 1, each, np.nan), made, zero, zero,
        np.where(rejected, -1, 0), np.where(rejected, REJECTED, DONE),
    )  # fmt: skip
    end = float(max(np.nanmax(last, initial=0.0), arrival.max()))
    edges = np.concatenate([[0.0], np.geomspace(1e-4, 1e2, 257)])
    gaps = int((made[made > 1] - 1).sum())
    counts = np.histogram(np.full(1, each), bins=edges)[0] * gaps
    some = np.zeros(50, np.int64)
    steps = Steps(some, np.arange(50.0) * each, np.arange(1.0, 51.0) * each, some + 3, some)
    return SimulatedRun(
        deployment(seats, max_len=0 if too_long == 10**9 else too_long), t, requests,
        series(requests, t, end, bins), steps, edges, counts,
        {"end": end, "steps": 50.0, "preemptions": 0.0, "energy": 300.0 * end, "rent": 0.001 * end} | totals,
    )  # fmt: skip


def series(r: Requests, t: Trace, end: float, bins: int) -> Series:
    """What those requests look like over time: exact means of each bin."""
    edges = np.linspace(0.0, end, bins + 1)
    ok = np.isfinite(r.scheduled)

    def busy(start: np.ndarray, stop: np.ndarray, weight: np.ndarray | float = 1.0) -> np.ndarray:
        """Mean of the sum of weights over the intervals, by bin, from the integral up to each edge."""
        start, stop = start[ok], stop[ok]
        weight = np.broadcast_to(weight, ok.shape)[ok]
        upto = [float((np.clip(e - start, 0.0, stop - start) * weight).sum()) for e in edges]
        return np.diff(upto) / np.diff(edges)

    running, waiting = busy(r.scheduled, r.last), busy(r.arrival, r.scheduled)
    kv = np.minimum(busy(r.scheduled, r.last, t.prompt + t.output / 2.0) / KV_TOKENS, 1.0)
    length = np.maximum(r.last - r.first, 1e-12)
    out = busy(r.first, r.first + length, r.made / length)
    prompt = busy(r.scheduled, r.first, t.prompt / np.maximum(r.first - r.scheduled, 1e-12))
    on = np.minimum(running, 1.0)
    return Series(edges[1:], running, waiting, kv, 0.05 * on, prompt, out, 0.3 * on, 0.8 * on, 0.0 * on, 0.0 * on + 1.0)


def interrupted(whole: SimulatedRun, at: float) -> SimulatedRun:
    """The run as it stood at a time."""
    r = whole.requests
    cut = lambda x: np.where(x <= at, x, np.nan)  # noqa: E731
    state = np.where(r.last <= at, r.state, np.where(r.scheduled <= at, 1, 0))
    share = np.clip((at - r.first) / np.maximum(r.last - r.first, 1e-12), 0.0, 1.0)
    made = np.where(r.last <= at, r.made, np.floor(np.nan_to_num(share) * r.made).astype(np.int64))
    first = cut(r.first)
    last = np.where(np.isfinite(first), np.minimum(r.last, at), np.nan)
    requests = replace(r, arrival=cut(r.arrival), scheduled=cut(r.scheduled), first=first, last=last, made=made,
                       state=state)  # fmt: skip
    return replace(whole, requests=requests, interrupted=True, totals=whole.totals | {"end": at},
                   series=series(replace(requests, scheduled=requests.scheduled, last=np.nan_to_num(last, nan=at)),
                                 whole.trace, at, 100))  # fmt: skip
