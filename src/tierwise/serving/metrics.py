"""What a simulation says: distributions of times, rates, goodput, what was busy, what it cost, and who got what.

Everything is computed from the arrays of a :class:`~tierwise.serving.outcome.Run` at once; nothing loops over requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tierwise.core.num import greatest
from tierwise.core.units import gb
from tierwise.serving.fairness import Fairness, fairness
from tierwise.serving.outcome import DONE, REJECTED, Series, SimulatedRun
from tierwise.serving.saturation import Saturation, saturation

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

QUANTILES = (0.5, 0.9, 0.95, 0.99)
_NAN = float("nan")


@dataclass(frozen=True)
class Spread:
    """A distribution in a few numbers; nan where there is nothing to tell (``count`` 0)."""

    count: int
    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    max: float


@dataclass(frozen=True)
class Times:
    """Seconds of each request, shape (n,), in the trace's order; nan where it did not come to it.

    Attributes:
        queueing: from sending to the first step it is in; ``ttft``: to its first token; ``latency``: to its last.
        tpot: (last - first) / (tokens - 1) of finished requests with more than one token.
    """

    queueing: Floats
    ttft: Floats
    tpot: Floats
    latency: Floats


@dataclass(frozen=True)
class Metrics:
    """All that is told about a run. Seconds, tokens, dollars, joules; shares are of 1; nan where not known.

    Attributes:
        requests: that arrived; ``done``, ``rejected``, ``unfinished`` of them; ``reasons`` of rejection with counts.
        span: seconds from the first arrival to the end; ``interrupted``: the user stopped it.
        queueing, ttft, tpot, itl, latency: distributions; ITL from the run's histogram, exact to a bin.
        ttft_target, tpot_target: what was asked, nan for nothing.
        ttft_met, tpot_met, good_share: share of the finished and rejected requests that meet one, the other, both.
            Without a target all finished ones do; a request of one token has no TPOT and meets any.
        goodput: requests per second that finish and meet both; ``request_rate``: that finish.
        prompt_rate, output_rate: tokens per second, of prompts (found in a cache or computed) and generated.
        load: what was offered and whether the system kept up.
        batch, batch_max: requests running, mean over the time any did, and at most (of one time bin).
        waiting, waiting_max: requests waiting, mean over time and at most (of one time bin).
        kv, kv_max: share of KV blocks in use, mean and at most; ``fragmentation``: share of them that hold no token.
        preemptions: how often a request lost its place; ``preempted``: requests that ever did.
        hit_rate: share of the prompt tokens of scheduled requests found in a prefix cache.
        accepted: share of draft tokens that were right, nan without drafts.
        compute, memory, link: mean share of time busy.
        tokens_per_joule, tokens_per_dollar, usd_per_million: by generated tokens; ``energy``, ``rent`` in all.
        fairness: who got what.
        totals: the run's own counters.
    """

    requests: int
    done: int
    rejected: int
    unfinished: int
    reasons: Mapping[str, int]
    span: float
    interrupted: bool
    queueing: Spread
    ttft: Spread
    tpot: Spread
    itl: Spread
    latency: Spread
    ttft_target: float
    tpot_target: float
    ttft_met: float
    tpot_met: float
    good_share: float
    goodput: float
    request_rate: float
    prompt_rate: float
    output_rate: float
    load: Saturation
    batch: float
    batch_max: float
    waiting: float
    waiting_max: float
    kv: float
    kv_max: float
    fragmentation: float
    preemptions: float
    preempted: int
    hit_rate: float
    accepted: float
    compute: float
    memory: float
    link: float
    tokens_per_joule: float
    tokens_per_dollar: float
    usd_per_million: float
    energy: float
    rent: float
    fairness: Fairness
    totals: Mapping[str, float]


def metrics(run: SimulatedRun, ttft: float | None = None, tpot: float | None = None) -> Metrics:
    """Everything a report tells about a run.

    Args:
        ttft, tpot: targets in seconds; None asks for nothing.
    """
    r, s, t = run.requests, run.series, run.totals
    each = times(run)
    done, rejected = r.state == DONE, r.state == REJECTED
    arrived = r.arrival <= t.get("end", np.inf)  # false where it is nan
    span = _span(run)
    scheduled = np.isfinite(r.scheduled)
    # A nan (one token, no TPOT) compares false with any target: it meets.
    ttft_ok = done & ~(each.ttft > (np.inf if ttft is None else ttft))
    tpot_ok = done & ~(each.tpot > (np.inf if tpot is None else tpot))
    ended = int(np.count_nonzero(done | rejected))
    good = int(np.count_nonzero(ttft_ok & tpot_ok))
    made = float(r.made.sum())
    energy, rent = t.get("energy", _NAN), t.get("rent", _NAN)
    preemptions = t.get("preemptions", float(r.preempted.sum()))
    return Metrics(
        requests=int(np.count_nonzero(arrived)), done=int(np.count_nonzero(done)),
        rejected=int(np.count_nonzero(rejected)), unfinished=int(np.count_nonzero(arrived & ~done & ~rejected)),
        reasons=reasons(run), span=span, interrupted=run.interrupted,
        queueing=spread(each.queueing), ttft=spread(each.ttft), tpot=spread(each.tpot), itl=itl(run),
        latency=spread(each.latency),
        ttft_target=_NAN if ttft is None else float(ttft), tpot_target=_NAN if tpot is None else float(tpot),
        ttft_met=_ratio(int(ttft_ok.sum()), ended), tpot_met=_ratio(int(tpot_ok.sum()), ended),
        good_share=_ratio(good, ended), goodput=_ratio(good, span), request_rate=_ratio(int(done.sum()), span),
        prompt_rate=_ratio(float(run.trace.prompt[np.isfinite(r.first)].sum()), span), output_rate=_ratio(made, span),
        load=saturation(run),
        batch=_mean(s.running[s.running > 0]), batch_max=_max(s.running),
        waiting=_mean(s.waiting), waiting_max=_max(s.waiting), kv=_mean(s.kv), kv_max=_max(s.kv),
        fragmentation=_fragmentation(s),
        preemptions=preemptions, preempted=int(np.count_nonzero(r.preempted)),
        hit_rate=_ratio(float(r.cached[scheduled].sum()), float(run.trace.prompt[scheduled].sum())),
        accepted=_ratio(t.get("accepted", 0.0), t.get("drafted", 0.0)),
        compute=_mean(s.compute), memory=_mean(s.memory), link=_mean(s.link),
        tokens_per_joule=_ratio(made, energy), tokens_per_dollar=_ratio(made, rent),
        usd_per_million=_ratio(1e6 * rent, made), energy=energy, rent=rent,
        fairness=fairness(run, each.ttft, each.tpot, each.latency), totals=dict(t),
    )  # fmt: skip


def times(run: SimulatedRun) -> Times:
    """The times of each request; see :class:`Times`.

    A request of several samples generates them side by side, so the tokens of one of them count for TPOT.
    """
    r = run.requests
    done = r.state == DONE
    gaps = np.minimum(r.made, run.trace.output) - 1.0
    with np.errstate(invalid="ignore", divide="ignore"):
        tpot = np.where(done & (gaps > 0), (r.last - r.first) / gaps, np.nan)
    return Times(r.scheduled - r.arrival, r.first - r.arrival, tpot, np.where(done, r.last - r.arrival, np.nan))


def spread(values: Floats) -> Spread:
    """The distribution of the finite values, shape (n,). Quantiles interpolate between the two nearest values."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return Spread(0, *(_NAN,) * 6)
    at = np.quantile(finite, (*QUANTILES, 1.0), overwrite_input=True)
    return Spread(len(finite), float(finite.mean()), *(float(x) for x in at))


def itl(run: SimulatedRun) -> Spread:
    """The distribution of times between two tokens, from the histogram: quantiles are right to within a bin.

    The mean is that of the requests themselves where each makes one sequence, else that of the bins' middles.
    """
    counts, edges, r = run.itl_counts, run.itl_edges, run.requests
    total = int(counts.sum())
    if not total:
        return Spread(0, *(_NAN,) * 6)
    longest = float(np.nanmax(r.longest)) if np.isfinite(r.longest).any() else float(edges[-1])
    at = np.minimum(histogram_quantiles(edges, counts, QUANTILES), longest)
    if (run.trace.samples <= 1).all():
        mean = float(np.nansum(r.last - r.first)) / total
    else:
        upper = np.where(np.isfinite(edges[1:]), edges[1:], longest)
        mean = float(((edges[:-1] + upper) / 2.0) @ counts) / total
    return Spread(total, mean, float(at[0]), float(at[1]), float(at[2]), float(at[3]), longest)


def histogram_quantiles(edges: Floats, counts: Ints, q: tuple[float, ...] | Floats) -> Floats:
    """Quantiles of what a histogram counted, shape of ``q``: spread evenly over the logarithm within a bin.

    Args:
        edges: ascending, (k + 1,), the first may be 0 and the last infinite; ``counts``: (k,), not all 0.
    """
    below = np.concatenate([[0.0], np.cumsum(counts)])
    wanted = np.asarray(q, np.float64) * below[-1]
    i = np.clip(np.searchsorted(below, wanted, side="left") - 1, 0, len(counts) - 1)
    part = (wanted - below[i]) / np.maximum(counts[i], 1)
    low, high = edges[i], np.where(np.isfinite(edges[i + 1]), edges[i + 1], edges[i])
    with np.errstate(divide="ignore", invalid="ignore"):
        within = np.where(low > 0.0, low * (high / np.where(low > 0.0, low, 1.0)) ** part, high * part)
    return np.asarray(within, np.float64)


def reasons(run: SimulatedRun) -> dict[str, int]:
    """Why requests were rejected, and how many: longer than the engine takes, or than its KV memory holds."""
    rejected = run.requests.state == REJECTED
    if not rejected.any():
        return {}
    tokens = (run.trace.prompt + run.trace.output)[rejected]
    longest = max(max_len(run, g) for g in range(len(run.deployment.groups)))
    long = int(np.count_nonzero(tokens > longest))
    out = {f"longer than the {longest:,.0f} tokens a request may have": long}
    if len(tokens) > long:
        out[_crowded(run)] = len(tokens) - long
    return {reason: n for reason, n in out.items() if n}


def _crowded(run: SimulatedRun) -> str:
    """Why KV memory turned requests away: there is too little, or none because of what else an engine holds."""
    from tierwise.serving.pricing import pool_of

    model = run.deployment.model
    for i, group in enumerate(run.deployment.groups):
        s, pool = group.settings, pool_of(model, group, max_len(run, i))
        if np.any(np.asarray(pool.room) > 0):
            continue
        found = pool.memory
        weights = greatest(found.weight_bytes)
        if weights >= greatest(found.capacity - found.reserve):
            return f"find no engine: its weights take {gb(weights)} of a device of {gb(found.capacity)}"
        return (f"find no KV memory: what steps of {s.budget:,} tokens and {s.max_seqs:,} sequences take beside the "
                "weights leaves none")  # fmt: skip
    return "need more KV memory than a replica has"


def max_len(run: SimulatedRun, group: int) -> float:
    """Tokens a request may have in a group of replicas."""
    return float(run.deployment.groups[group].settings.max_len or run.deployment.model.max_context)


def _span(run: SimulatedRun) -> float:
    """Seconds from the first arrival to the end of the run."""
    r = run.requests
    if not np.isfinite(r.arrival).any():
        return _NAN
    last = r.last[np.isfinite(r.last)]
    end = run.totals.get("end", float(last.max()) if len(last) else _NAN)
    return float(end - np.nanmin(r.arrival))


def _fragmentation(s: Series) -> float:
    """Mean over what is in use, so that an idle hour counts nothing."""
    return _ratio(float(np.nansum(s.fragmentation * s.kv)), float(np.nansum(s.kv)))


def _mean(x: Floats) -> float:
    return float(x.mean()) if len(x) else _NAN


def _max(x: Floats) -> float:
    return float(x.max()) if len(x) else _NAN


def _ratio(part: float, whole: float) -> float:
    return float(part) / float(whole) if whole > 0 else _NAN
