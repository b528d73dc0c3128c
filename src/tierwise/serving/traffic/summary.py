"""A trace in a few numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tierwise.serving.traffic.trace import Floats, Ints, Trace


@dataclass(frozen=True)
class Lengths:
    """Of tokens: mean, median, 99th percentile, largest."""

    mean: float
    p50: float
    p99: float
    most: float


@dataclass(frozen=True)
class Summary:
    """What a trace asks of a deployment.

    Attributes:
        requests, sessions: how many; a request that follows none begins a session.
        duration: seconds from the first arrival to the last; ``rate``: requests a second over it (nan for none).
        cv: deviation over mean of the times between sessions; 1 for Poisson, more for bursts.
        prompt, output: tokens.
        shared: share of prompt tokens in blocks that an earlier request held too, what a prefix cache without
            bounds could answer; nan where the trace knows no blocks.
        closed_loop: requests in flight, 0 for an open loop; ``tenants``: share of the requests of each.
    """

    requests: int
    sessions: int
    duration: float
    rate: float
    cv: float
    prompt: Lengths
    output: Lengths
    shared: float
    closed_loop: int
    tenants: dict[str, float]


def summarized(requests: Trace) -> Summary:
    """The summary of a trace; see :class:`Summary`."""
    n = len(requests)
    gaps = np.diff(requests.arrival[requests.after < 0])
    varied = len(gaps) > 1 and gaps.mean() > 0
    share = np.bincount(requests.tenant, minlength=len(requests.tenants)) / max(n, 1)
    return Summary(
        requests=n,
        sessions=int((requests.after < 0).sum()),
        duration=requests.duration,
        rate=(n - 1) / requests.duration if requests.duration > 0 else np.nan,
        cv=float(gaps.std() / gaps.mean()) if varied else np.nan,
        prompt=_lengths(requests.prompt),
        output=_lengths(requests.output),
        shared=shared(requests),
        closed_loop=requests.closed_loop,
        tenants=dict(zip(requests.tenants, share.tolist(), strict=True)),
    )


def shared(requests: Trace) -> float:
    """Share of prompt tokens that stand in blocks seen in an earlier request, behind equal prefixes; nan if unknown."""
    if not len(requests.blocks):
        return np.nan
    count = np.diff(requests.block_start)
    owner = np.repeat(np.arange(len(requests)), count)
    place = np.arange(len(requests.blocks)) - requests.block_start[owner]
    size = requests.block_size
    tokens = np.clip(requests.prompt[owner] - place * size, 0, size)
    # Of a block that earlier prompts filled only in part, so much is known as the fullest of them held.
    order = np.argsort(requests.blocks, kind="stable")
    group = np.cumsum(np.concatenate([[False], np.diff(requests.blocks[order]) != 0])) * (size + 1)
    fullest = np.maximum.accumulate(group + tokens[order])
    before = np.concatenate([[0], fullest[:-1]]) - group
    return float(np.minimum(tokens[order], np.maximum(before, 0)).sum() / requests.prompt.sum())


def rates(requests: Trace, bins: int) -> Floats:
    """Arrivals a second in equal parts of the trace, (bins,)."""
    span = max(requests.duration, np.finfo(float).tiny)
    start = requests.arrival[0] if len(requests) else 0.0
    return np.histogram(requests.arrival - start, bins, (0.0, span))[0] * bins / span


def _lengths(tokens: Ints) -> Lengths:
    if not len(tokens):
        return Lengths(np.nan, np.nan, np.nan, np.nan)
    p50, p99 = np.percentile(tokens, [50, 99])
    return Lengths(float(tokens.mean()), float(p50), float(p99), float(tokens.max()))
