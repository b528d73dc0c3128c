"""What came out of a simulation: every request's times, series over time, and totals."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tierwise.serving.deployment import Deployment
from tierwise.serving.traffic.trace import Trace

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

WAITING, RUNNING, DONE, REJECTED = 0, 1, 2, 3


@dataclass(frozen=True)
class Requests:
    """Per request, shape (n,), in the trace's order. Times in seconds from its start; nan where it never happened.

    Attributes:
        arrival: when the client sent it; ``scheduled``: first in a step; ``first``, ``last``: its tokens.
        made: tokens generated; ``cached``: prompt tokens found in a prefix cache.
        longest: the largest time between two tokens.
        preempted: how often it lost its place; ``replica``: where it ended (-1: nowhere).
        state: one of WAITING, RUNNING, DONE, REJECTED.
    """

    arrival: Floats
    scheduled: Floats
    first: Floats
    last: Floats
    longest: Floats
    made: Ints
    cached: Ints
    preempted: Ints
    replica: Ints
    state: Ints


@dataclass(frozen=True)
class Series:
    """Over time, by bins of equal width, shape (bins,) of sums or means over the bin and all replicas.

    ``time`` is the bin's end. ``running``, ``waiting``: mean requests. ``kv``: mean share of KV blocks in use,
    ``fragmentation``: share of used blocks that hold no token. ``prompt_tokens``, ``output_tokens``: per second.
    ``compute``, ``memory``, ``link``: mean share of time busy. ``replicas``: up.
    """

    time: Floats
    running: Floats
    waiting: Floats
    kv: Floats
    fragmentation: Floats
    prompt_tokens: Floats
    output_tokens: Floats
    compute: Floats
    memory: Floats
    link: Floats
    replicas: Floats


@dataclass(frozen=True)
class Steps:
    """The first so many steps, for a timeline, shape (k,): when, where, and what was in them."""

    replica: Ints
    start: Floats
    end: Floats
    decoding: Ints
    prompt_tokens: Ints


@dataclass(frozen=True)
class SimulatedRun:
    """A finished (or interrupted) simulation.

    Attributes:
        itl_edges, itl_counts: histogram of times between tokens over all requests, seconds (k + 1,) and (k,).
        totals: counters by name: steps, preemptions, swapped_bytes, transferred_bytes, cached_tokens,
            recomputed_tokens, energy (J), rent ($), replica_seconds, device_seconds, end (s), drafted, accepted.
        interrupted: the user stopped it; what had happened by ``totals["end"]`` is whole.
        wall: seconds of the event loop itself.
        basis: the weakest of what the step prices rest on, "" where nobody said; ``interval``: factors on their times
            that 80 % of measurements lie between.
    """

    deployment: Deployment
    trace: Trace
    requests: Requests
    series: Series
    steps: Steps
    itl_edges: Floats
    itl_counts: Ints
    totals: dict[str, float] = field(default_factory=dict)
    interrupted: bool = False
    wall: float = 0.0
    basis: str = ""
    interval: tuple[float, float] = (1.0, 1.0)
