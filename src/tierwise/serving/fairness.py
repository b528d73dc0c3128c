"""Who got what: service by tenant while tenants compete, and how evenly it was shared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tierwise.serving.outcome import DONE, REJECTED, SimulatedRun

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Fairness:
    """Service by tenant. Arrays of shape (tenants,); tokens, seconds; nan where a tenant has nothing of it.

    Attributes:
        tenants: names; ``requests``, ``done``, ``rejected``: how many each had.
        demand: tokens asked for until the last arrival: prompts (less what a cache held) and answers.
        service: tokens of these computed by then, in between a request's times taken as steady.
        fair: the max-min fair split of all service: nobody gets more than it asked, nobody who wants more gets less
            than another.
        jain: Jain's index of service over the fair split, 1 when it is exactly that, 1/k when one of k gets all
            (Jain, Chiu, Hawe: A Quantitative Measure of Fairness, DEC-TR-301, 1984, which takes the shares in
            units of the fair ones).
        ttft, ttft_p99, tpot, latency, latency_p99: means and 99th percentiles of each.
    """

    tenants: tuple[str, ...]
    requests: Ints
    done: Ints
    rejected: Ints
    demand: Floats
    service: Floats
    fair: Floats
    jain: float
    ttft: Floats
    ttft_p99: Floats
    tpot: Floats
    latency: Floats
    latency_p99: Floats


def fairness(run: SimulatedRun, ttft: Floats, tpot: Floats, latency: Floats) -> Fairness:
    """Account for the tenants of a run, given the times of each request, shape (n,)."""
    r, tenant, k = run.requests, run.trace.tenant, len(run.trace.tenants)
    arrived = np.isfinite(r.arrival)
    rejected = r.state == REJECTED
    served = arrived & ~rejected
    demand = _sum(tenant, np.where(served, run.trace.prompt - r.cached + run.trace.output * _samples(run), 0.0), k)
    until = float(r.arrival[served].max()) if served.any() else 0.0
    service = np.minimum(_sum(tenant, _served(run, until, served), k), demand)
    fair = max_min(demand, float(service.sum()))
    return Fairness(
        run.trace.tenants, _count(tenant[arrived], k), _count(tenant[r.state == DONE], k), _count(tenant[rejected], k),
        demand, service, fair, jain(service[fair > 0] / fair[fair > 0]),
        _mean(tenant, ttft, k), _quantile(tenant, ttft, k, 0.99), _mean(tenant, tpot, k),
        _mean(tenant, latency, k), _quantile(tenant, latency, k, 0.99),
    )  # fmt: skip


def jain(shares: Floats) -> float:
    """Jain's index of fairness of shares, shape (k,): (sum x)^2 / (k sum x^2); nan for none."""
    squares = float((shares**2).sum())
    return float(shares.sum()) ** 2 / (len(shares) * squares) if squares > 0 else float("nan")


def max_min(demand: Floats, total: float) -> Floats:
    """The max-min fair split of ``total`` among demands, shape (k,): the level L with sum(min(demand, L)) = total."""
    order = np.sort(demand)
    if total >= order.sum():
        return demand.copy()
    # With the i smallest served in full, the others share the rest; the first level below the next demand is it.
    below = np.concatenate([[0.0], np.cumsum(order)[:-1]])
    levels = (total - below) / np.arange(len(order), 0, -1)
    return np.asarray(np.minimum(demand, levels[np.argmax(levels <= order)]), dtype=np.float64)


def _samples(run: SimulatedRun) -> Ints:
    return np.maximum(run.trace.samples, 1)


def _served(run: SimulatedRun, until: float, served: NDArray[np.bool_]) -> Floats:
    """Tokens of each request computed by a time, shape (n,)."""
    r = run.requests
    with np.errstate(invalid="ignore", divide="ignore"):
        prefilled = np.clip((until - r.scheduled) / (r.first - r.scheduled), 0.0, 1.0)
        decoded = np.clip((until - r.first) / (r.last - r.first), 0.0, 1.0)
    # Where no time passes between the two ends it is all there, or nothing is.
    prefilled = np.where(r.first <= until, 1.0, np.nan_to_num(prefilled, nan=0.0))
    decoded = np.where(r.last <= until, 1.0, np.nan_to_num(decoded, nan=0.0))
    tokens = prefilled * (run.trace.prompt - r.cached) + decoded * r.made
    return np.where(served, tokens, 0.0)


def _sum(tenant: Ints, values: Floats, k: int) -> Floats:
    return np.bincount(tenant, weights=values, minlength=k)[:k].astype(np.float64)


def _count(tenant: Ints, k: int) -> Ints:
    return np.bincount(tenant, minlength=k)[:k].astype(np.int64)


def _mean(tenant: Ints, values: Floats, k: int) -> Floats:
    ok = np.isfinite(values)
    counts = _count(tenant[ok], k)
    return np.where(counts > 0, _sum(tenant[ok], values[ok], k) / np.maximum(counts, 1), np.nan)


def _quantile(tenant: Ints, values: Floats, k: int, q: float) -> Floats:
    """The quantile of each tenant's finite values, shape (k,), all at once."""
    ok = np.isfinite(values)
    if not ok.any():
        return np.full(k, np.nan)
    if k == 1:
        return np.quantile(values[ok], [q])
    group, x = tenant[ok], values[ok]
    # By value, then by tenant with the order kept; small integers are sorted by radix, which takes no time.
    by_value = np.argsort(x)
    small = group[by_value].astype(np.uint16 if k <= 2**16 else np.int64)
    ordered = x[by_value[np.argsort(small, kind="stable")]]
    counts = _count(group, k)
    start = np.cumsum(counts) - counts
    at = q * np.maximum(counts - 1, 0)
    low = np.clip(start + np.floor(at).astype(np.int64), 0, len(ordered) - 1)
    high = np.clip(start + np.ceil(at).astype(np.int64), 0, len(ordered) - 1)
    part = at - np.floor(at)
    return np.where(counts > 0, ordered[low] * (1.0 - part) + ordered[high] * part, np.nan)
