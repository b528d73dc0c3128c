"""Who waits gets a place: the next in the scheduler's order, if blocks and adapters allow."""

from __future__ import annotations

from tierwise.serving.jit import jit
from tierwise.serving.loop import arrays as of
from tierwise.serving.loop import layout
from tierwise.serving.loop.heap import pop_waiting
from tierwise.serving.loop.kv import below, matched, publish, spare_of, take_blocks, use_units
from tierwise.serving.loop.move import fetch, pull
from tierwise.serving.loop.queue import leave_queue
from tierwise.serving.loop.ranks import given, least_loaded


@jit
def admit(s, r, tokens, order, blocks):  # type: ignore[no-untyped-def]
    """The request that gets the next place of engine r, already in it; -1 for none. One whose keys and values are
    elsewhere still gets its place and blocks, and stands there as MOVING until they have come."""
    e, running = of.engines(s)[r], of.running(s)[r]
    queue = _first_queue(s, r, order)
    if queue < 0:
        return -1
    item = of.queues(s)[r, queue]
    q = of.requests(s)[item]
    if q.ready > e.seen:
        return -1
    if e.width + e.leaving + q.samples > e.max_seqs:
        # What cannot change while all only decode: no place is free, or no request may pass the first one.
        e.blocked = e.leaving == 0 and (e.by_tenant == 0 or e.width >= e.max_seqs)
        return -1
    units, spare = 0, 0
    if e.unit > 0 and q.computed == 0:
        units = matched(s, r, q)
        spare = spare_of(s, r, q, units)
    had = q.computed if q.computed > 0 else units * e.unit_tokens
    q.left = q.prompt + q.made - had
    if e.ranks > 1:
        q.rank = least_loaded(s, r)
    q.wanted = min(given(s, r, q, tokens), q.left)
    if q.wanted <= 0:
        return -1
    whole = blocks(e, q, q.prompt + q.made) + e.fixed * q.samples - units * e.unit
    if whole + (e.reserve if e.running > 0 else 0) > e.free + e.spare - spare - e.returned:
        e.blocked = e.returned == 0 and e.by_tenant == 0
        return -1
    if q.adapter >= 0 and e.slots > 0 and not _adapter(s, r, q):
        return -1
    of.queues(s)[r, queue] = pop_waiting(of.requests(s), item)
    leave_queue(s, r, q)
    running[e.running] = item
    e.running += 1
    e.width += q.samples
    q.state = layout.RUNNING
    if q.scheduled != q.scheduled:
        q.scheduled = e.seen
    if e.unit > 0 and q.computed == 0:
        use_units(s, r, q, units)
        q.computed = had
        e.load -= had
        if q.made == 0:
            q.cached = had
        of.cluster(s)[0].cached_tokens += had
    e.tokens += q.computed
    if q.source >= 0:
        more = blocks(e, q, q.computed) + e.fixed * q.samples - q.held - q.shared
        take_blocks(s, r, more)
        q.held += more
        if e.unit > 0:
            publish(s, r, q, q.computed)
        pull(s, r, q)
    elif q.swapped > 0:
        more = blocks(e, q, q.computed) + e.fixed * q.samples
        take_blocks(s, r, more)
        q.held += more
        q.swapped = 0
        e.copied += q.computed * of.groups(s)[e.group].kv_token
    elif e.unit > 0 and e.host_units + e.disk_units > 0:
        host, disk = below(s, r, q, units)
        if host + disk > 0:
            had = (host + disk) * e.unit_tokens
            more = blocks(e, q, q.computed + had) + e.fixed * q.samples - q.held - q.shared
            take_blocks(s, r, more)
            q.held += more
            q.computed += had
            e.tokens += had
            e.load -= had
            if q.made == 0:
                q.cached += had
            of.cluster(s)[0].cached_tokens += had
            publish(s, r, q, q.computed)
            fetch(s, r, q, host, disk)
    return item


@jit
def _first_queue(s, r, order):  # type: ignore[no-untyped-def]
    """The queue whose first request comes next: the only one, or of all tenants' the smallest in today's order."""
    if of.engines(s)[r].by_tenant == 0:
        return 0
    best, least = -1, float("inf")
    for k in range(of.queues(s).shape[1]):
        item = of.queues(s)[r, k]
        if item >= 0:
            value = order(of.engines(s)[r], of.requests(s)[item], of.tenants(s)[r, k])
            if best < 0 or value < least:
                best, least = k, value
    return best


@jit
def _adapter(s, r, q):  # type: ignore[no-untyped-def]
    """Hold request q's adapter: loaded already, or in place of the one unused for longest. False where all are used."""
    e = of.engines(s)[r]
    users, used = of.adapter_users(s)[r], of.adapter_used(s)[r]
    if used[q.adapter] < 0.0:
        if e.adapters >= e.slots:
            oldest = -1
            for k in range(len(users)):
                if used[k] >= 0.0 and users[k] == 0 and (oldest < 0 or used[k] < used[oldest]):
                    oldest = k
            if oldest < 0:
                return False
            used[oldest] = -1.0
            e.adapters -= 1
        e.adapters += 1
        e.copied += of.groups(s)[e.group].adapter
    users[q.adapter] += 1
    used[q.adapter] = e.at
    return True
