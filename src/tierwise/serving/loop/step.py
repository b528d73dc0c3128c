"""One step of an engine, put together by its scheduler: who gets tokens, on what blocks, at what price."""

from __future__ import annotations

from tierwise.serving.jit import jit
from tierwise.serving.loop import arrays as of
from tierwise.serving.loop import layout
from tierwise.serving.loop.admit import admit
from tierwise.serving.loop.kv import publish, release, take_blocks
from tierwise.serving.loop.price import chunk_price, nothing
from tierwise.serving.loop.queue import join_queue
from tierwise.serving.loop.ranks import decode_on, empty, given, left_for, prefill_on, step_seconds
from tierwise.serving.loop.settle import give_back
from tierwise.serving.loop.speculate import drafts


@jit
def begin(s, r, tokens, order, blocks):  # type: ignore[no-untyped-def]
    """Put the next step of engine r together at its time: first what runs, in order of admission, then what waits,
    while tokens, sequences and blocks last (or the other way round, as the scheduler says). Returns False where there
    is nothing to do."""
    e = of.engines(s)[r]
    lane = e.lane
    e.left, e.decoding, e.prompts, e.prompt_tokens, e.yields, e.context = e.budget, 0, 0, 0, 0, 0
    nothing(e)
    e.copied, e.drafts = 0.0, 0
    e.steady, e.blocked, e.dirty = 0, 0, 0
    # Put together when the step before it began, unless there was nothing to put together then: what came
    # since, and what the last step gave back, counts from the next one on.
    early = e.ahead > 0 and e.idle == 0
    if early and e.running == 0:
        first = of.queues(s)[r, 0]
        early = e.by_tenant == 0 and first >= 0 and of.requests(s)[first].ready <= e.begun
    e.seen = e.begun if early else e.at
    if not early:
        e.leaving, e.returned = 0, 0
    if e.speculate > 0:
        e.drafts = drafts(s, r)
    if e.ranks > 1:
        empty(s, r)
    lost = _compose(s, r, lane, tokens, order, blocks)
    if early and e.left == e.budget:
        # What the last step gave back is all there is: an empty step takes no time, the next one has it.
        e.seen, e.leaving, e.returned, e.blocked = e.at, 0, 0, 0
        if e.ranks > 1:
            empty(s, r)
        lost = _compose(s, r, lane, tokens, order, blocks)
    if e.left == e.budget:
        return False
    group = of.groups(s)[e.group]
    step_seconds(s, r)
    if e.copied > 0.0:
        e.dt += e.copied / group.swap
        of.cluster(s)[0].swapped += e.copied
    _shared_units(s, r, lane)
    e.begun, e.idle, e.leaving, e.returned = e.at, 0, 0, 0
    e.at = e.begun + e.dt
    alone = e.lanes == 1 and e.hold == 0 and e.speculate == 0 and (e.by_tenant == 0 or of.tenants(s).shape[1] == 1)
    only_decode = e.decoding == e.running and e.prompts == 0 and e.width == e.running and not lost
    closed = e.waiting == 0 or e.blocked > 0
    e.steady = alone and only_decode and closed and e.grow >= 0 and of.cluster(s)[0].exact == 0
    return True


@jit
def _compose(s, r, lane, tokens, order, blocks):  # type: ignore[no-untyped-def]
    """Fill the step. Returns True where one that ran lost its place."""
    e = of.engines(s)[r]
    if e.waiting_first > 0:
        _waiting(s, r, lane, tokens, order, blocks)
        return _running(s, r, lane, tokens, blocks)
    lost = _running(s, r, lane, tokens, blocks)
    if e.hold > 0 and e.left == e.budget:
        _end_batch(s, r)
    if not lost or e.left == e.budget:
        _waiting(s, r, lane, tokens, order, blocks)
    return lost


@jit
def _running(s, r, lane, tokens, blocks):  # type: ignore[no-untyped-def]
    """Tokens for those that run. Returns True where one lost its place."""
    e, running = of.engines(s)[r], of.running(s)[r]
    lost, i = False, 0
    while i < e.running and e.left > 0:
        item = running[i]
        q = of.requests(s)[item]
        i += 1
        if q.chunk > 0 or (q.chunk < 0 and q.lane == lane) or q.state == layout.MOVING:
            continue
        if q.state == layout.DONE:
            # A static batch goes on with those that are done in their places.
            e.decoding += q.samples
            e.context += q.samples * q.computed
            if e.ranks > 1:
                of.ranks(s)[r, q.rank].decoding += q.samples
                of.ranks(s)[r, q.rank].context += q.samples * q.computed
            continue
        q.left = q.prompt + q.made - q.computed
        decodes = q.made > 0 and q.left == 1
        if e.lanes > 1 and e.partition > 0.0 and decodes != (lane == 1):
            continue
        n = min(given(s, r, q, tokens), q.left, left_for(s, r, q))
        if n <= 0:
            continue
        grown = 1 + min(e.drafts, q.output - q.made - 1) if decodes else n
        more = blocks(e, q, q.computed + grown) + e.fixed * q.samples - q.held - q.shared
        place = i - 1
        while more > e.free + e.spare - e.returned and place >= 0:
            victim = _victim(s, r)
            if victim < 0:
                place = -1
                break
            lost = True
            preempt(s, r, victim)
            if victim <= place:
                i -= 1
                place = place - 1 if victim < place else -1
        if place >= 0:
            take(s, r, q, n, more, lane, decodes)
    return lost


@jit
def _end_batch(s, r):  # type: ignore[no-untyped-def]
    """All that is left of a static batch is done: the last one lost its place."""
    e, running = of.engines(s)[r], of.running(s)[r]
    for i in range(e.running):
        q = of.requests(s)[running[i]]
        if q.state == layout.DONE:
            give_back(s, r, q)
    kept = 0
    for i in range(e.running):
        if of.requests(s)[running[i]].state != layout.DONE:
            running[kept] = running[i]
            kept += 1
    e.running, e.leaving, e.returned, e.decoding, e.context = kept, 0, 0, 0, 0


@jit
def _waiting(s, r, lane, tokens, order, blocks):  # type: ignore[no-untyped-def]
    """Places for those that wait, while tokens, sequences and blocks last."""
    e = of.engines(s)[r]
    if e.lanes > 1 and e.partition > 0.0 and lane == 1 and e.role != layout.DECODE:
        return
    while e.waiting > 0 and e.left > 0:
        item = admit(s, r, tokens, order, blocks)
        if item < 0:
            return
        q = of.requests(s)[item]
        if q.state == layout.MOVING:
            continue
        q.left = q.prompt + q.made - q.computed
        decodes = q.made > 0 and q.left == 1
        n = min(q.wanted, q.left, left_for(s, r, q))
        more = blocks(e, q, q.computed + n) + e.fixed * q.samples - q.held - q.shared
        take(s, r, q, n, more, lane, decodes)


@jit
def take(s, r, q, n, more, lane, decodes):  # type: ignore[no-untyped-def]
    """Put n tokens of request q into the step, with the blocks they need."""
    e = of.engines(s)[r]
    if more > 0:
        take_blocks(s, r, more)
        q.held += more
    q.lane = lane
    of.tenants(s)[r, q.tenant].served += q.samples if decodes else n
    if decodes:
        q.chunk = 1
        n = min(left_for(s, r, q), q.samples * (1 + e.tree * e.drafts // max(e.speculate, 1)))
        if e.ranks > 1:
            decode_on(s, r, q, n)
        e.decoding += q.samples
        e.context += q.samples * q.computed
        e.yields += q.samples
    else:
        q.chunk = n
        e.prompts += 1
        e.prompt_tokens += n
        chunk_price(of.groups(s)[e.group], of.tables(s), e, n, q.computed)
        if e.ranks > 1:
            prefill_on(s, r, q, n)
        # Engines compute logits of a chunk that does not end its prompt too, and pass over them.
        e.yields += q.samples if n == q.left else 1
        if e.unit > 0:
            publish(s, r, q, q.computed + n)
        if e.follow > 0 and n < q.left:
            # The next chunk need not wait for it.
            q.chunk = -1
            q.computed += n
            e.tokens += n
            e.load -= n
    e.left -= n


@jit
def _victim(s, r):  # type: ignore[no-untyped-def]
    """Place of the request that loses its own: the newest, or the last in the scheduler's order; -1 for none."""
    e, running = of.engines(s)[r], of.running(s)[r]
    best = -1
    for i in range(e.running - 1, -1, -1):
        q = of.requests(s)[running[i]]
        if q.state != layout.RUNNING or q.chunk != 0:
            continue
        if e.keyed == 0:
            return i
        if best < 0 or q.key > of.requests(s)[running[best]].key:
            best = i
    return best


@jit
def preempt(s, r, place):  # type: ignore[no-untyped-def]
    """Send a running request of engine r back to its queue; its keys and values are computed again, or move to the
    host and back."""
    e, cluster = of.engines(s)[r], of.cluster(s)[0]
    q = of.requests(s)[of.running(s)[r, place]]
    for i in range(place, e.running - 1):
        of.running(s)[r, i] = of.running(s)[r, i + 1]
    e.running -= 1
    e.width -= q.samples
    release(s, r, q, q.held, q.units)
    e.tokens -= q.computed
    q.held, q.shared, q.units, q.chunk = 0, 0, 0, 0
    if q.adapter >= 0 and e.slots > 0:
        of.adapter_users(s)[r, q.adapter] -= 1
    cluster.preemptions += 1
    q.preempted += 1
    if e.swaps > 0:
        q.swapped = 1
        e.copied += q.computed * of.groups(s)[e.group].kv_token
    else:
        e.load += q.computed
        cluster.recomputed += q.computed
        q.computed = 0
    of.tenants(s)[r, q.tenant].running -= 1
    join_queue(s, r, q)


@jit
def _shared_units(s, r, lane):  # type: ignore[no-untyped-def]
    """Two lanes on one device: each computes on its share of the units, and what the other reads of the memory, it
    cannot. Twice the time is the most that one of two readers can lose."""
    e = of.engines(s)[r]
    if e.lanes < 2 or e.partition <= 0.0:
        return
    share = e.partition if lane == 0 else 1.0 - e.partition
    e.dt += e.compute * (1.0 / share - 1.0)
    other = of.flights(s)[r, 1 - lane]
    if other.at < float("inf") and other.dt > 0.0:
        free = max(0.5, 1.0 - other.memory / other.dt)
        e.dt = max(e.dt, e.memory / free)
