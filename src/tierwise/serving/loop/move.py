"""Keys and values on their way: from the engine that prefilled, from host or disk; one transfer at a time on a link."""

from __future__ import annotations

from tierwise.serving.jit import jit
from tierwise.serving.loop import arrays as of
from tierwise.serving.loop import layout
from tierwise.serving.loop.heap import push_event
from tierwise.serving.loop.kv import release
from tierwise.serving.loop.queue import wake


@jit
def pull(s, r, q):  # type: ignore[no-untyped-def]
    """Request q, in its place in engine r, waits for what its source holds. Transfers of one engine queue."""
    e, source, group = of.engines(s)[r], of.engines(s)[q.source], of.groups(s)[of.engines(s)[r].group]
    size = q.computed * group.kv_token + q.samples * group.kv_fixed
    other = of.groups(s)[source.group]
    start = max(e.at, e.busy_link, source.busy_link)
    done = start + group.latency + size / min(group.transfer, other.transfer)
    e.busy_link, source.busy_link = done, done
    of.cluster(s)[0].transferred += size
    q.state, q.until = layout.MOVING, done
    push_event(s, done, layout.LANDED, q.id)


@jit
def fetch(s, r, q, host, disk):  # type: ignore[no-untyped-def]
    """Request q waits for units that host or disk hold; pooled ones come over the network."""
    e, group = of.engines(s)[r], of.groups(s)[of.engines(s)[r].group]
    size = e.unit_tokens * group.kv_token
    rate = min(group.swap, group.transfer) if e.pooled > 0 else group.swap
    start = max(e.at, e.busy_copy)
    done = start + (host + disk) * size / rate + disk * size / group.disk
    e.busy_copy = done
    of.cluster(s)[0].swapped += (host + disk) * size
    q.state, q.until = layout.MOVING, done
    push_event(s, done, layout.LANDED, q.id)


@jit
def landed(s, item):  # type: ignore[no-untyped-def]
    """What request ``item`` waited for is there: its source may forget it."""
    q = of.requests(s)[item]
    q.state = layout.RUNNING
    forget(s, q)


@jit
def forget(s, q):  # type: ignore[no-untyped-def]
    """The engine that prefilled request q, if it holds it still, frees its blocks, and what waits there may come in."""
    source = q.source
    if source < 0:
        return
    release(s, source, q, q.source_held, q.source_units)
    q.source, q.source_held, q.source_units = -1, 0, 0
    if of.engines(s)[source].waiting > 0:
        wake(s, source)
        of.engines(s)[source].dirty = 1
