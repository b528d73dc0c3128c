"""Whether a system kept up with its traffic, and the rate it can sustain where it did not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tierwise.serving.outcome import DONE, REJECTED, SimulatedRun

Floats = NDArray[np.float64]

_NAN = float("nan")
# Growth of the queue that chance explains: three standard deviations (once in 700 runs), seen over this many parts
# of the time.
_SIGMAS = 3.0
_PARTS = 32


@dataclass(frozen=True)
class Saturation:
    """What was offered and what was served, in requests and seconds; nan where it does not apply.

    Attributes:
        kind: ``open`` (arrivals whatever the system does), ``closed`` (a client keeps so many in flight) or ``at once``
            (all arrive together: there is no rate to keep up with).
        clients: requests kept in flight in a closed loop, else 0.
        offered: arrivals per second from the first to the last.
        late_offered, late_served: over the second half of the arrivals' time: arrivals per second, and those less what
            the queue grew by.
        growth: requests the queue grew by in that half; ``noise``: the most that chance explains.
        queue: requests waiting when the last one arrived; ``queue_noise``: the most that chance explains.
        saturated: either is more than chance, and the rate offered in that time is more than what it sustains: the
            system fell behind and had not caught up when arrivals ended. ``judged``: that rate, nan where it kept up.
        peak, peak_time: most requests waiting (mean of a time bin), and when; ``behind``: share of the arrivals' time
            in which more waited than chance explains. A system may keep up on the whole and fall behind for a while.
        filling: requests in flight when the last one arrived more than in the middle of the arrivals' time, where that
            is more than chance explains and nobody waits in vain: batches were still growing, so that the trace is too
            short to tell whether the system keeps up; else 0.
        sustainable: requests per second that finished while others waited, from the middle of the arrivals' time until
            nobody waits any more (or the end): what the system gives when it always has work. nan where no queue
            stood at the end of the arrivals.
        window: the first and last moment of that time.
        kv_waiting, seats_waiting: while anybody waited, mean share of KV blocks in use, and of the places in the batch
            (``max_seqs`` of all replicas that were up); ``room_waiting``: requests of the running ones' mean size that
            the free KV of one replica would still have taken.
        compute_waiting, memory_waiting: share of that time they were busy.
    """

    kind: str
    clients: int
    offered: float
    late_offered: float
    late_served: float
    growth: float
    noise: float
    queue: float
    queue_noise: float
    saturated: bool
    judged: float
    peak: float
    peak_time: float
    behind: float
    filling: float
    sustainable: float
    window: tuple[float, float]
    kv_waiting: float
    seats_waiting: float
    room_waiting: float
    compute_waiting: float
    memory_waiting: float


def saturation(run: SimulatedRun) -> Saturation:
    """Judge a run; see :class:`Saturation`. Rejected requests are not offered: they take no service."""
    r, s, clients = run.requests, run.series, run.trace.closed_loop
    arrival = np.sort(r.arrival[np.isfinite(r.arrival) & (r.state != REJECTED)])
    arrival = arrival[arrival <= run.totals.get("end", np.inf)]
    n = len(arrival)
    first, last = (float(arrival[0]), float(arrival[-1])) if n else (_NAN, _NAN)
    at = int(np.argmax(s.waiting)) if len(s.waiting) else -1
    peak, peak_time = (float(s.waiting[at]), float(s.time[at])) if at >= 0 else (_NAN, _NAN)
    waited = _while_waiting(run)
    if clients > 0 or n < 2 or last <= first:
        return Saturation(
            "closed" if clients > 0 else "at once", clients, offered=_NAN, late_offered=_NAN, late_served=_NAN,
            growth=_NAN, noise=_NAN, queue=_NAN, queue_noise=_NAN, saturated=False, judged=_NAN,
            peak=peak, peak_time=peak_time, behind=_NAN, filling=0.0, sustainable=_NAN, window=(_NAN, _NAN),
            **waited,
        )  # fmt: skip
    middle = (first + last) / 2.0
    late = arrival[arrival > middle]
    queue = _queue(run, arrival, last)
    growth = queue - _queue(run, arrival, middle)
    noise, queue_noise = _noise(late, middle, last), _noise(arrival, first, last)
    rate, offered = len(late) / (last - middle), (n - 1) / (last - first)
    fell = growth > noise or queue > queue_noise
    sustainable, window = _sustainable(run, middle) if fell else (_NAN, (_NAN, _NAN))
    judged = rate if growth > noise and not rate <= sustainable else offered
    # A burst at the very end leaves a queue too, but on the whole there was time enough.
    saturated = fell and not judged <= sustainable
    during = s.waiting[s.time <= last]
    more = len(late) - float(np.count_nonzero((r.last > middle) & (r.last <= last) & (r.state == DONE)))
    return Saturation(
        "open", 0, offered=offered, late_offered=rate,
        late_served=min(rate, rate - growth / (last - middle)), growth=growth, noise=noise, queue=queue,
        queue_noise=queue_noise, saturated=saturated, judged=judged if saturated else _NAN,
        peak=peak, peak_time=peak_time, behind=float((during > queue_noise).mean()) if len(during) else 0.0,
        filling=more if more > noise and not saturated else 0.0, sustainable=sustainable, window=window, **waited,
    )  # fmt: skip


def _queue(run: SimulatedRun, arrival: Floats, at: float) -> float:
    """Requests waiting at a time: those that arrived and were in no step yet, or those the simulator counted as
    waiting then (which knows of the preempted, and of queues behind the first), whichever are more."""
    r, s = run.requests, run.series
    taken = np.count_nonzero((r.scheduled <= at) & (r.state != REJECTED))
    unseen = float(np.searchsorted(arrival, at, side="right") - taken)
    if not len(s.time):
        return unseen
    width = float(s.time[1] - s.time[0]) if len(s.time) > 1 else float(s.time[0])
    return max(unseen, float(np.interp(at, s.time - width / 2.0, s.waiting)))


def _noise(arrival: Floats, start: float, end: float) -> float:
    """The most a queue grows by chance while these arrive: so many standard deviations of their number.

    Its variance over its mean, 1 for Poisson, is that of equal parts of the time, and at least 1: from differences of
    neighbours (von Neumann), so that a rate that rises and falls is not taken for noise, and from their median, so
    that a jump of the rate is not either. The median of a squared normal deviate is 0.4549 of its variance.
    """
    counts, _ = np.histogram(arrival, bins=_PARTS, range=(start, end))
    variance = float(np.median(np.diff(counts) ** 2)) / 2.0 / 0.4549
    return _SIGMAS * float(np.sqrt(max(len(arrival), variance * _PARTS)))


def _sustainable(run: SimulatedRun, start: float) -> tuple[float, tuple[float, float]]:
    """Requests finished after ``start`` in the bins of time in which others waited, over the time of those bins; and
    from when to when these were."""
    r, s = run.requests, run.series
    edges = np.concatenate([[0.0], s.time])
    wait = (s.waiting >= 1.0) & (edges[:-1] >= start)
    if not wait.any():
        return _NAN, (_NAN, _NAN)
    finished = np.histogram(r.last[r.state == DONE], edges)[0]
    at = np.flatnonzero(wait)
    return float(finished[wait].sum() / np.diff(edges)[wait].sum()), (float(edges[at[0]]), float(edges[at[-1] + 1]))


def _while_waiting(run: SimulatedRun) -> dict[str, float]:
    """Over the time in which requests waited: mean share of KV blocks and of places in the batch taken, how many more
    requests the free blocks of a replica would have held, and how busy the devices were."""
    s, groups = run.series, [g for g in run.deployment.groups if g.role != "prefill"]
    wait = s.waiting >= 1.0
    if not wait.any() or not groups:
        names = ("kv_waiting", "seats_waiting", "room_waiting", "compute_waiting", "memory_waiting")
        return dict.fromkeys(names, _NAN)
    up = np.maximum(s.replicas[wait], 1.0)
    places = sum(g.count * g.settings.max_seqs for g in groups) * up / sum(g.count for g in run.deployment.groups)
    kv, running = float(s.kv[wait].mean()), float((s.running[wait] / up).mean())
    return {
        "kv_waiting": kv,
        "seats_waiting": float((s.running[wait] / places).mean()),
        "room_waiting": (1.0 - kv) * running / kv if kv > 0 else float("inf"),
        "compute_waiting": float(s.compute[wait].mean()),
        "memory_waiting": float(s.memory[wait].mean()),
    }
