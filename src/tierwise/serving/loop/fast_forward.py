"""Fast forward over steps in which nothing changes but the context: all sequences decode, none ends, none can come in.

They cost the same whatever the batch: what each sequence gains is kept as one count and handed out when something
happens. Which of them need a new block in a step is known beforehand from how full their last blocks are. Times come
from the same prices in the same order as in steps taken in full, so results are equal to the last bit.
"""

from __future__ import annotations

from tierwise.serving.jit import jit
from tierwise.serving.loop import arrays as of
from tierwise.serving.loop import layout
from tierwise.serving.loop.kv import take_blocks
from tierwise.serving.loop.price import steady_base, steady_price
from tierwise.serving.loop.ranks import grow, step_seconds
from tierwise.serving.loop.record import count_gaps, spread
from tierwise.serving.loop.settle import account


@jit
def fast_forward_begin(s, r):  # type: ignore[no-untyped-def]
    """After a steady step of engine r: how many more like it there are before one ends, and when blocks are needed."""
    e, running = of.engines(s)[r], of.running(s)[r]
    grow = e.grow
    for k in range(grow):
        of.growth(s)[r, k] = 0
    left = 2**60
    for i in range(e.running):
        q = of.requests(s)[running[i]]
        left = min(left, q.output - q.made)
        if grow > 0:
            # The first step j from here whose token does not fit: computed + j + 1 > room.
            room = -(-q.computed // grow) * grow
            of.growth(s)[r, (room - q.computed) % grow] += 1
    e.fast_forwarding, e.fast_forwarded, e.fast_forward_limit, e.span = 1, 0, left - 1, 0.0
    e.seen = e.at + of.groups(s)[e.group].request


@jit
def fast_forward(s, r, horizon, blocks):  # type: ignore[no-untyped-def]
    """Steps of engine r, which stands at the beginning of one, while they only go on and end before ``horizon``.
    Returns False where the next has to be put together in full."""
    e, group = of.engines(s)[r], of.groups(s)[of.engines(s)[r].group]
    base = steady_base(group, of.tables(s), of.graphs(s), e)
    while True:
        more = of.growth(s)[r, e.fast_forwarded % e.grow] * e.grown if e.grow > 0 else 0
        if e.dirty > 0 or e.fast_forwarded >= e.fast_forward_limit or more > e.free + e.spare - e.returned:
            fast_forward_end(s, r, blocks)
            return False
        if more > 0:
            take_blocks(s, r, more)
        e.context += e.decoding
        if e.ranks > 1:
            grow(s, r)
            step_seconds(s, r)
        else:
            steady_price(group, of.tables(s), e, base)
        e.begun, e.next = e.at, layout.END
        e.at = e.begun + e.dt
        if e.at >= horizon:
            return True
        of.cluster(s)[0].time = e.at
        of.cluster(s)[0].end = max(of.cluster(s)[0].end, e.at)
        fast_forward_step(s, r)


@jit
def fast_forward_step(s, r):  # type: ignore[no-untyped-def]
    """A step of engine r that only went on is over."""
    e, cluster = of.engines(s)[r], of.cluster(s)[0]
    d = e.decoding
    among = account(s, e)
    seen = e.at + of.groups(s)[e.group].request
    gap = seen - e.seen
    count_gaps(cluster, of.edges(s), of.itl(s), gap, d)
    e.span = max(e.span, gap)
    e.seen = seen
    e.fast_forwarded += 1
    e.tokens += d
    e.load -= d
    cluster.output_tokens += d
    spread(cluster, of.series(s), among, layout.S_OUTPUT, e.begun, e.at, d / max(e.at - e.begun, 1e-12))
    e.next = layout.BEGIN


@jit
def fast_forward_end(s, r, blocks):  # type: ignore[no-untyped-def]
    """Hand out to each sequence of engine r what it gained while nothing changed."""
    e, running = of.engines(s)[r], of.running(s)[r]
    n = e.fast_forwarded
    e.fast_forwarding = 0
    if n == 0:
        return
    for i in range(e.running):
        q = of.requests(s)[running[i]]
        q.computed += n
        q.made += n
        q.last = e.seen
        q.longest = max(q.longest, e.span)
        q.held += blocks(e, q, q.computed) + e.fixed - q.held - q.shared
        of.tenants(s)[r, q.tenant].served += n
    e.fast_forwarded = 0
