"""Requests that wait at a replica: joining and leaving."""

from __future__ import annotations

from tierwise.serving.loop.heap import push_waiting
from tierwise.serving.loop.jit import jit
from tierwise.serving.loop.layout import S_WAITING, WAITING
from tierwise.serving.loop.record import spread


@jit
def join_queue(s, r, q):  # type: ignore[no-untyped-def]
    """Request q waits at engine r, behind those with a smaller key."""
    e = s.engines[r]
    count_waiting(s, r, s.cluster[0].time)
    q.state = WAITING
    q.replica = r
    s.queues[r, 0] = push_waiting(s.requests, s.queues[r, 0], q.id)
    e.waiting += 1
    s.tenants[r, q.tenant].waiting += 1


@jit
def leave_queue(s, r, q):  # type: ignore[no-untyped-def]
    """Request q, taken off its queue already, waits no more."""
    e = s.engines[r]
    count_waiting(s, r, s.cluster[0].time)
    e.waiting -= 1
    s.tenants[r, q.tenant].waiting -= 1
    s.tenants[r, q.tenant].running += 1


@jit
def count_waiting(s, r, now):  # type: ignore[no-untyped-def]
    """Write down how many have waited at engine r since that last changed."""
    e = s.engines[r]
    if now > e.queued:
        if e.waiting > 0:
            spread(s.cluster[0], s.series, S_WAITING, e.queued, now, e.waiting)
        e.queued = now
