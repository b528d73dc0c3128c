"""The event loop: arrivals, ends and beginnings of steps, whichever comes first."""

from __future__ import annotations

from tierwise.serving.jit import jit
from tierwise.serving.loop import arrays as of
from tierwise.serving.loop import layout
from tierwise.serving.loop.cluster import arrive, fail, follow, retire, scale, shut, start
from tierwise.serving.loop.fast_forward import fast_forward, fast_forward_begin, fast_forward_end, fast_forward_step
from tierwise.serving.loop.flight import begin_lanes, recall
from tierwise.serving.loop.heap import pop_event, push_event
from tierwise.serving.loop.move import landed
from tierwise.serving.loop.queue import count_waiting, next_of_lanes, wake
from tierwise.serving.loop.settle import count_state, end
from tierwise.serving.loop.step import begin

INFINITY = float("inf")


def advance(handle, events, tokens, orders, blocks, route, replicas):  # type: ignore[no-untyped-def]
    """Play at most so many ``events``; 0 closes the books and plays none. Returns 1 when nothing is left.

    At equal times a step ends before requests arrive, and they arrive before the next step begins: what is there
    when a step is put together can be in it.
    """
    s = handle[0]
    cluster = of.cluster(s)[0]
    n = len(of.requests(s))
    if events == 0:
        for r in range(len(of.engines(s))):
            e = of.engines(s)[r]
            if e.fast_forwarding > 0:
                fast_forward_end(s, r, blocks[e.policy])
            count_state(s, e, cluster.end)
            count_waiting(s, r, cluster.end)
            cluster.time = cluster.end
            shut(s, r)
    for _ in range(events):
        r, at, other = _next_engine(s)
        # A later turn comes after its predecessor, whatever its own time says.
        while cluster.arrived < n and of.requests(s)[cluster.arrived].after >= 0:
            cluster.arrived += 1
        coming = INFINITY
        if cluster.closed == 0 and cluster.arrived < n:
            coming = of.requests(s)[cluster.arrived].arrival
        listed = of.event_time(s)[0] if cluster.events > 0 else INFINITY
        external = min(coming, listed)
        if cluster.finished >= n or (at == INFINITY and external == INFINITY):
            return 1
        e = of.engines(s)[r]
        if external < at or (external == at and e.next == layout.BEGIN):
            cluster.time = external
            if coming <= listed:
                cluster.arrived += 1
                arrive(s, cluster.arrived - 1, orders, blocks, route)
            else:
                _happen(s, orders, blocks, route, replicas)
            continue
        cluster.time = at
        cluster.end = max(cluster.end, at)
        if e.next == layout.BEGIN:
            if e.fast_forwarding > 0 and fast_forward(s, r, min(external, other) if cluster.linked > 0 else external,
                                        blocks[e.policy]):  # fmt: skip
                continue
            if e.lanes > 1:
                begin_lanes(s, r, tokens[e.policy], orders[e.policy], blocks[e.policy])
                continue
            # What it held while it had nothing to do is not part of a step.
            count_state(s, e, e.at)
            if begin(s, r, tokens[e.policy], orders[e.policy], blocks[e.policy]):
                e.next = layout.END
            elif e.idle == 0 and e.waiting > 0:
                # Nothing could be put together ahead: again at once, with what the last step gave back.
                e.idle = 1
            else:
                e.next, e.at, e.idle = layout.IDLE, INFINITY, 1
        elif e.fast_forwarding > 0:
            fast_forward_step(s, r)
        else:
            _end(s, r, orders, blocks, route)
    return 0


@jit
def _end(s, r, orders, blocks, route):  # type: ignore[no-untyped-def]
    """A step is over: those that are done make room for others, those prefilled here go on elsewhere."""
    e = of.engines(s)[r]
    lane = max(e.lane, 0)
    if e.lanes > 1:
        recall(s, r, lane)
    out = end(s, r, lane)
    if e.lanes > 1:
        of.flights(s)[r, lane].at = INFINITY
        e.gate = max(e.at, e.gate_after)
        next_of_lanes(s, r)
    else:
        e.next = layout.BEGIN
        if e.steady > 0 and out == 0 and e.dirty == 0:
            fast_forward_begin(s, r)
    for k in range(out):
        item = of.scratch(s)[k]
        if of.requests(s)[item].state == layout.DONE:
            follow(s, item)
        else:
            arrive(s, item, orders, blocks, route)
    if e.open == 0:
        retire(s)


@jit
def _happen(s, orders, blocks, route, replicas):  # type: ignore[no-untyped-def]
    """The first event of the heap happens."""
    cluster = of.cluster(s)[0]
    _, kind, item = pop_event(s)
    if kind == layout.ARRIVAL:
        of.requests(s)[item].arrival = cluster.time
        arrive(s, item, orders, blocks, route)
    elif kind == layout.LANDED:
        q = of.requests(s)[item]
        if q.state == layout.MOVING and q.until == cluster.time:
            landed(s, item)
            wake(s, q.replica)
    elif kind == layout.DOWN:
        fail(s, item, orders, blocks, route)
    elif kind == layout.UP:
        start(s, item, orders, blocks, route)
    else:
        scale(s, replicas(cluster, of.engines(s)))
        stuck = cluster.events == 0
        for r in range(len(of.engines(s))):
            stuck = stuck and of.engines(s)[r].next == layout.IDLE
        to_come = cluster.closed == 0 and cluster.arrived < len(of.requests(s))
        if cluster.finished < len(of.requests(s)) and (to_come or not stuck):
            push_event(s, cluster.time + cluster.interval,
                       layout.SCALE, 0)  # fmt: skip


@jit
def _next_engine(s):  # type: ignore[no-untyped-def]
    """The engine that does something first, when, and when the next of the others does."""
    best, at, other = 0, of.engines(s)[0].at, INFINITY
    for r in range(1, len(of.engines(s))):
        e = of.engines(s)[r]
        if e.at < at or (e.at == at and e.next == layout.END and of.engines(s)[best].next == layout.BEGIN):
            best, at, other = r, e.at, at
        elif e.at < other:
            other = e.at
    return best, at, other
