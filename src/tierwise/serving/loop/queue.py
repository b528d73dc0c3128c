"""Requests that wait at a replica: joining and leaving."""

from __future__ import annotations

from tierwise.serving.jit import jit
from tierwise.serving.loop import arrays as of
from tierwise.serving.loop import layout
from tierwise.serving.loop.heap import push_waiting
from tierwise.serving.loop.record import bins, spread


@jit
def join_queue(s, r, q):  # type: ignore[no-untyped-def]
    """Request q waits at engine r, behind those with a smaller key."""
    e, tenant = of.engines(s)[r], of.tenants(s)[r, q.tenant]
    count_waiting(s, r, of.cluster(s)[0].time)
    q.state, q.replica = layout.WAITING, r
    if e.by_tenant > 0 and tenant.waiting + tenant.running == 0:
        _lift(s, r, q.tenant)
    k = q.tenant if e.by_tenant > 0 else 0
    of.queues(s)[r, k] = push_waiting(of.requests(s), of.queues(s)[r, k], q.id)
    e.waiting += 1
    e.dirty = 1
    tenant.waiting += 1


@jit
def leave_queue(s, r, q):  # type: ignore[no-untyped-def]
    """Request q, taken off its queue already, waits no more."""
    e, tenant = of.engines(s)[r], of.tenants(s)[r, q.tenant]
    count_waiting(s, r, of.cluster(s)[0].time)
    e.waiting -= 1
    tenant.waiting -= 1
    tenant.running += 1


@jit
def count_waiting(s, r, now):  # type: ignore[no-untyped-def]
    """Write down how many have waited at engine r since that last changed."""
    e = of.engines(s)[r]
    if now > e.queued:
        if e.waiting > 0:
            cluster, series = of.cluster(s)[0], of.series(s)
            among = bins(cluster, series, e.queued, now)
            spread(cluster, series, among, layout.S_WAITING, e.queued, now, e.waiting)
        e.queued = now


@jit
def wake(s, r):  # type: ignore[no-untyped-def]
    """There may be something to do for engine r now."""
    e = of.engines(s)[r]
    now = of.cluster(s)[0].time
    if e.lanes > 1:
        e.gate = max(now, e.gate_after)
        next_of_lanes(s, r)
    elif e.next == layout.IDLE:
        e.next, e.at = layout.BEGIN, now


@jit
def next_of_lanes(s, r):  # type: ignore[no-untyped-def]
    """What an engine with several steps in flight does next, and when: end the first of them, or begin another."""
    e = of.engines(s)[r]
    e.next, e.at, e.lane = layout.IDLE, float("inf"), -1
    free = -1
    for k in range(e.lanes):
        at = of.flights(s)[r, k].at
        if at == float("inf"):
            free = k
        elif at < e.at:
            e.next, e.at, e.lane = layout.END, at, k
    if free >= 0 and e.gate < e.at:
        e.next, e.at, e.lane = layout.BEGIN, e.gate, free


@jit
def _lift(s, r, tenant):  # type: ignore[no-untyped-def]
    """A tenant that comes back starts with no less service than the least of those that are there: what it did not
    ask for is not saved up (Sheng et al., Fairness in Serving Large Language Models, OSDI 2024, arXiv:2401.00588)."""
    least = float("inf")
    for k in range(of.tenants(s).shape[1]):
        other = of.tenants(s)[r, k]
        if k != tenant and other.waiting + other.running > 0:
            least = min(least, other.served)
    if least < float("inf"):
        of.tenants(s)[r, tenant].served = max(of.tenants(s)[r, tenant].served, least)
