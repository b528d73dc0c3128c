"""The event loop: arrivals, ends and beginnings of steps, whichever comes first."""

from __future__ import annotations

from tierwise.serving.loop.heap import pop_event, push_event
from tierwise.serving.loop.jit import jit
from tierwise.serving.loop.layout import ARRIVAL, BEGIN, END, IDLE, REJECTED
from tierwise.serving.loop.queue import join_queue
from tierwise.serving.loop.step import begin, end


def advance(s, slice_steps, tokens, orders, blocks, route):  # type: ignore[no-untyped-def]
    """Play at most ``slice_steps`` events. Returns 1 when nothing is left to happen.

    At equal times a step ends before requests arrive, and they arrive before the next step begins: what is there
    when a step is put together can be in it.
    """
    cluster = s.cluster[0]
    n = len(s.requests)
    for _ in range(slice_steps):
        r, at = _next_engine(s)
        coming = float("inf")
        # A later turn comes after its predecessor, whatever its own time says.
        while cluster.arrived < n and s.requests[cluster.arrived].after >= 0:
            cluster.arrived += 1
        if cluster.closed == 0 and cluster.arrived < n:
            coming = s.requests[cluster.arrived].arrival
        listed = s.event_time[0] if cluster.events > 0 else float("inf")
        external = min(coming, listed)
        if at == float("inf") and external == float("inf"):
            return 1
        if external < at or (external == at and s.engines[r].next == BEGIN):
            cluster.time = external
            if coming <= listed:
                q = cluster.arrived
                cluster.arrived += 1
                arrive(s, q, orders, blocks, route)
            else:
                _, kind, item = pop_event(cluster, s.event_time, s.event_kind, s.event_item)
                if kind == ARRIVAL:
                    s.requests[item].arrival = cluster.time
                    arrive(s, item, orders, blocks, route)
            continue
        cluster.time = at
        cluster.end = at
        e = s.engines[r]
        if e.next == END:
            finished = end(s, r)
            for k in range(finished):
                settle(s, s.scratch[k])
        else:
            begin(s, r, tokens[e.policy], blocks[e.policy])
    return 0


@jit
def _next_engine(s):  # type: ignore[no-untyped-def]
    best, at = 0, s.engines[0].at
    for r in range(1, len(s.engines)):
        e = s.engines[r]
        if e.at < at or (e.at == at and e.next == END and s.engines[best].next == BEGIN):
            best, at = r, e.at
    return best, at


@jit
def arrive(s, item, orders, blocks, route):  # type: ignore[no-untyped-def]
    """A request reaches the router, which sends it to a replica; one that can never be served is turned away."""
    cluster, q = s.cluster[0], s.requests[item]
    count = 0
    for r in range(len(s.engines)):
        e = s.engines[r]
        whole = q.prompt + q.output
        if e.open == 1 and whole <= e.max_len and blocks[e.policy](e, q, whole - 1) + e.fixed <= e.blocks:
            s.scratch[count] = r
            count += 1
    if count == 0:
        q.state = REJECTED
        settle(s, item)
        return
    r = route(cluster, q, s.engines, s.scratch[:count])
    cluster.turn += 1
    e = s.engines[r]
    q.ready = cluster.time
    q.key = orders[e.policy](e, q, s.tenants[r, q.tenant])
    e.load += q.prompt + q.output - 1  # the last token is never read
    join_queue(s, r, q)
    if e.next == IDLE:
        e.next, e.at = BEGIN, cluster.time


@jit
def settle(s, item):  # type: ignore[no-untyped-def]
    """A request has ended: those that come after it are on their way, and a closed loop sends the next."""
    cluster, q = s.cluster[0], s.requests[item]
    cluster.finished += 1
    seen = max(cluster.time, q.last) if q.last == q.last else cluster.time
    cluster.end = max(cluster.end, seen)
    after = q.follower
    while after >= 0:
        next_one = s.requests[after]
        push_event(cluster, s.event_time, s.event_kind, s.event_item, seen + next_one.think, ARRIVAL, after)
        after = next_one.sibling
    if cluster.closed > 0:
        while cluster.arrived < len(s.requests) and s.requests[cluster.arrived].after >= 0:
            cluster.arrived += 1
        if cluster.arrived < len(s.requests):
            push_event(cluster, s.event_time, s.event_kind, s.event_item, seen, ARRIVAL, cluster.arrived)
            cluster.arrived += 1
