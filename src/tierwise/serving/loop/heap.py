"""Two queues: events by time (a binary heap), and requests that wait at a replica (pairing heaps through links)."""

from __future__ import annotations

from tierwise.serving.jit import jit
from tierwise.serving.loop import arrays as of


@jit
def push_event(s, time, kind, item):  # type: ignore[no-untyped-def]
    """Add an event. Equal times keep the order of kind, then item, so that a run is the same every time."""
    cluster, times, kinds, items = of.cluster(s)[0], of.event_time(s), of.event_kind(s), of.event_item(s)
    i = cluster.events
    cluster.events += 1
    while i > 0:
        up = (i - 1) // 2
        if not _earlier(time, kind, item, times[up], kinds[up], items[up]):
            break
        times[i], kinds[i], items[i] = times[up], kinds[up], items[up]
        i = up
    times[i], kinds[i], items[i] = time, kind, item


@jit
def pop_event(s):  # type: ignore[no-untyped-def]
    """Take the earliest event off: (time, kind, item)."""
    cluster, times, kinds, items = of.cluster(s)[0], of.event_time(s), of.event_kind(s), of.event_item(s)
    out = (times[0], kinds[0], items[0])
    cluster.events -= 1
    n = cluster.events
    time, kind, item = times[n], kinds[n], items[n]
    i = 0
    while True:
        down = 2 * i + 1
        if down >= n:
            break
        right = down + 1
        if right < n and _earlier(times[right], kinds[right], items[right], times[down], kinds[down], items[down]):
            down = right
        if not _earlier(times[down], kinds[down], items[down], time, kind, item):
            break
        times[i], kinds[i], items[i] = times[down], kinds[down], items[down]
        i = down
    times[i], kinds[i], items[i] = time, kind, item
    return out


@jit
def _earlier(t, k, i, u, l, j):  # type: ignore[no-untyped-def]  # noqa: E741
    return t < u or (t == u and (k < l or (k == l and i < j)))


@jit
def push_waiting(requests, root, q):  # type: ignore[no-untyped-def]
    """Queue with request q added; returns its new root."""
    requests[q].child = -1
    requests[q].peer = -1
    return q if root < 0 else _meld(requests, root, q)


@jit
def pop_waiting(requests, root):  # type: ignore[no-untyped-def]
    """Queue without its first request; returns its new root, -1 when empty."""
    # Pair the children from the left, then join the pairs from the right: the peers serve as a stack.
    at, pairs = requests[root].child, -1
    while at >= 0:
        other = requests[at].peer
        if other < 0:
            requests[at].peer = pairs
            pairs = at
            break
        after = requests[other].peer
        requests[at].peer = -1
        requests[other].peer = -1
        pair = _meld(requests, at, other)
        requests[pair].peer = pairs
        pairs = pair
        at = after
    out = -1
    while pairs >= 0:
        after = requests[pairs].peer
        requests[pairs].peer = -1
        out = pairs if out < 0 else _meld(requests, out, pairs)
        pairs = after
    requests[root].child = -1
    return out


@jit
def _meld(requests, a, b):  # type: ignore[no-untyped-def]
    if requests[b].key < requests[a].key or (requests[b].key == requests[a].key and b < a):
        a, b = b, a
    requests[b].peer = requests[a].child
    requests[a].child = b
    return a
