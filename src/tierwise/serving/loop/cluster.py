"""Between the engines: requests find one, follow each other, move on; engines come, go, and fail."""

from __future__ import annotations

from tierwise.serving.jit import jit
from tierwise.serving.loop import arrays as of
from tierwise.serving.loop import layout
from tierwise.serving.loop.fast_forward import fast_forward_end
from tierwise.serving.loop.heap import pop_waiting, push_event
from tierwise.serving.loop.kv import drop_cache, matched
from tierwise.serving.loop.move import forget
from tierwise.serving.loop.queue import count_waiting, join_queue, wake
from tierwise.serving.loop.record import bins, spread
from tierwise.serving.loop.settle import count_state


@jit
def arrive(s, item, orders, blocks, route):  # type: ignore[no-untyped-def]
    """A request reaches the router, which sends it to a replica; one that can never be served is turned away, and one
    for which no replica is up yet waits for it."""
    cluster, q = of.cluster(s)[0], of.requests(s)[item]
    count, could = 0, False
    # What comes from a prefilling engine goes to those that decode, everything else to the others.
    other = layout.PREFILL if q.source >= 0 else layout.DECODE
    whole = q.prompt + q.output
    for r in range(len(of.engines(s))):
        e = of.engines(s)[r]
        if e.role == other or whole > e.max_len or q.samples > e.max_seqs:
            continue
        need = blocks[e.policy](e, q, (q.prompt if e.role == layout.PREFILL else whole - 1) + e.speculate)
        if need + e.fixed * q.samples > e.blocks // e.ranks:
            continue
        could = True
        if e.open == 1:
            if cluster.match > 0:
                e.match = matched(s, r, q) * e.unit_tokens if e.unit > 0 else 0
            of.among(s)[count] = r
            count += 1
    if not could:
        q.state = layout.REJECTED
        forget(s, q)
        follow(s, item)
        return
    if count == 0:
        q.state, q.peer = layout.WAITING, cluster.limbo
        cluster.limbo = item
        return
    r = route(cluster, q, of.engines(s), of.among(s)[:count])
    cluster.turn += 1
    e = of.engines(s)[r]
    q.ready = cluster.time
    q.key = orders[e.policy](e, q, of.tenants(s)[r, q.tenant])
    # The last token is never read.
    e.load += q.prompt + q.made - q.computed if e.role == layout.PREFILL else whole - 1 - q.computed
    join_queue(s, r, q)
    wake(s, r)


@jit
def follow(s, item):  # type: ignore[no-untyped-def]
    """A request has ended: those that come after it are on their way, and a closed loop sends the next."""
    cluster, q = of.cluster(s)[0], of.requests(s)[item]
    cluster.finished += 1
    seen = max(cluster.time, q.last) if q.last == q.last else cluster.time
    cluster.end = max(cluster.end, seen)
    after = q.follower
    while after >= 0:
        later = of.requests(s)[after]
        push_event(s, seen + later.think, layout.ARRIVAL, after)
        after = later.sibling
    if cluster.closed > 0:
        while cluster.arrived < len(of.requests(s)) and of.requests(s)[cluster.arrived].after >= 0:
            cluster.arrived += 1
        if cluster.arrived < len(of.requests(s)):
            push_event(s, seen, layout.ARRIVAL, cluster.arrived)
            cluster.arrived += 1


@jit
def fail(s, r, orders, blocks, route):  # type: ignore[no-untyped-def]
    """Replica r is gone, with all it held: its requests go back to the router and are computed again."""
    e, cluster = of.engines(s)[r], of.cluster(s)[0]
    if e.fast_forwarding > 0:
        fast_forward_end(s, r, blocks[e.policy])
    shut(s, r)
    e.down += 1
    count_state(s, e, cluster.time)
    count_waiting(s, r, cluster.time)
    back = -1
    for k in range(e.running):
        q = of.requests(s)[of.running(s)[r, k]]
        if q.state == layout.DONE:
            continue
        q.peer = back
        back = q.id
        q.preempted += 1
        cluster.preemptions += 1
    for k in range(of.queues(s).shape[1]):
        while of.queues(s)[r, k] >= 0:
            item = of.queues(s)[r, k]
            of.queues(s)[r, k] = pop_waiting(of.requests(s), item)
            of.requests(s)[item].peer = back
            back = item
    for k in range(len(of.requests(s))):
        q = of.requests(s)[k]
        if q.source != r:
            continue
        # Its first token was made here, its keys and values are lost.
        q.source, q.source_held, q.source_units = -1, 0, 0
        cluster.recomputed += q.computed
        if q.replica != r:
            other = of.engines(s)[q.replica]
            other.load += q.computed
            if q.state == layout.MOVING:
                other.tokens -= q.computed
                q.state, q.until = layout.RUNNING, -1.0
                wake(s, q.replica)
        q.computed = 0
    for k in range(of.tenants(s).shape[1]):
        of.tenants(s)[r, k].waiting, of.tenants(s)[r, k].running = 0, 0
    for k in range(of.users(s).shape[1] if e.unit > 0 else 0):
        if of.users(s)[r, k] > 0:
            of.users(s)[r, k] = -1
    drop_cache(s, r)
    for k in range(of.adapter_users(s).shape[1]):
        of.adapter_users(s)[r, k], of.adapter_used(s)[r, k] = 0, -1.0
    e.free, e.adapters = e.blocks, 0
    e.running, e.waiting, e.width, e.tokens, e.load, e.fast_forwarding, e.fast_forwarded = 0, 0, 0, 0, 0, 0, 0
    e.next, e.at, e.idle, e.gate, e.leaving, e.returned = layout.IDLE, float("inf"), 1, float("inf"), 0, 0
    e.exit = 0.0
    for k in range(e.lanes):
        of.flights(s)[r, k].at = float("inf")
    while back >= 0:
        q = of.requests(s)[back]
        back = q.peer
        source = q.source
        if source >= 0 and source != r:
            # Its source still has what it needs.
            q.chunk, q.held, q.shared, q.units = 0, 0, 0, 0
        else:
            cluster.recomputed += q.computed
            q.chunk, q.held, q.shared, q.units, q.computed, q.swapped, q.source = 0, 0, 0, 0, 0, 0, -1
        q.until = -1.0
        arrive(s, q.id, orders, blocks, route)


@jit
def start(s, r, orders, blocks, route):  # type: ignore[no-untyped-def]
    """Replica r is up: it takes requests, first those that waited for one."""
    e, cluster = of.engines(s)[r], of.cluster(s)[0]
    if e.down > 0:
        e.down -= 1
        if e.down > 0:
            return
    if e.starting == 0:
        e.since = cluster.time
    e.open, e.starting = 1, 0
    e.counted, e.queued = cluster.time, cluster.time
    back, cluster.limbo = cluster.limbo, -1
    while back >= 0:
        q = of.requests(s)[back]
        back = q.peer
        arrive(s, q.id, orders, blocks, route)


@jit
def shut(s, r):  # type: ignore[no-untyped-def]
    """Replica r takes no more requests and its rent ends."""
    e = of.engines(s)[r]
    if e.since < of.cluster(s)[0].time:
        cluster, series = of.cluster(s)[0], of.series(s)
        among = bins(cluster, series, e.since, cluster.time)
        spread(cluster, series, among, layout.S_REPLICAS, e.since, cluster.time, 1.0)
        e.up += of.cluster(s)[0].time - e.since
    e.since, e.open = float("nan"), 0


@jit
def scale(s, wanted):  # type: ignore[no-untyped-def]
    """So many replicas should be up: start some, or let some finish what they have and go."""
    cluster = of.cluster(s)[0]
    count = 0
    for r in range(len(of.engines(s))):
        count += of.engines(s)[r].open > 0 or of.engines(s)[r].starting > 0
    wanted = max(1, min(wanted, len(of.engines(s))))
    for r in range(len(of.engines(s))):
        e = of.engines(s)[r]
        if count < wanted and e.open == 0 and e.starting == 0 and e.down == 0:
            if e.since == e.since:
                # Still there, finishing what it has: it just takes requests again.
                e.open = 1
            else:
                e.starting = 1
                # It is paid for from when it is asked for.
                e.since = cluster.time
                at = cluster.time + cluster.startup
                push_event(s, at, layout.UP, r)
            count += 1
    for r in range(len(of.engines(s)) - 1, -1, -1):
        e = of.engines(s)[r]
        if count > wanted and e.open == 1:
            e.open = 0
            count -= 1
    retire(s)


@jit
def retire(s):  # type: ignore[no-untyped-def]
    """Replicas that take no more requests and have none left go away."""
    for r in range(len(of.engines(s))):
        e = of.engines(s)[r]
        if e.open == 0 and e.starting == 0 and e.running == 0 and e.waiting == 0 and e.since == e.since:
            shut(s, r)
            drop_cache(s, r)
