"""One step of an engine: put together by its scheduler, priced, and what it leaves behind."""

from __future__ import annotations

from tierwise.serving.loop import layout
from tierwise.serving.loop.heap import pop_waiting
from tierwise.serving.loop.jit import jit
from tierwise.serving.loop.price import chunk_price, step_price
from tierwise.serving.loop.queue import join_queue, leave_queue
from tierwise.serving.loop.record import gap_bin, log_step, spread


@jit
def begin(s, r, tokens, blocks):  # type: ignore[no-untyped-def]
    """Put the next step of engine r together at its time: first what runs, in order of admission, then what waits,
    while tokens, sequences and blocks last. Without anything to do the engine falls idle."""
    e = s.engines[r]
    group = s.groups[e.group]
    running = s.running[r]
    e.left, e.decoding, e.prompts, e.prompt_tokens, e.yields, e.context = e.budget, 0, 0, 0, 0, 0
    e.dt, e.compute, e.memory, e.link = 0.0, 0.0, 0.0, 0.0
    # Put together when the step before it began, unless there was nothing to put together then: what came
    # since, and what the last step gave back, counts from the next one on.
    early = e.ahead > 0 and e.idle == 0
    if early and e.running == 0:
        early = e.waiting > 0 and s.requests[s.queues[r, 0]].ready <= e.begun
    e.seen = e.begun if early else e.at
    gone, kept = (e.leaving, e.returned) if early else (0, 0)
    lost = False
    i = 0
    while i < e.running and e.left > 0:
        q = s.requests[running[i]]
        q.left = q.prompt + q.made - q.computed
        n = min(tokens(e, q, s.tenants[r, q.tenant]), q.left, e.left)
        i += 1
        if n <= 0:
            continue
        more = blocks(e, q, q.computed + n) + e.fixed - q.held - q.shared
        while more > e.free + e.spare - kept and i <= e.running:
            # The newest goes first; it may be this one.
            lost = True
            preempt(s, r)
        if i > e.running:
            break
        _take(s, e, q, n, more, group)
    while (not lost or e.left == e.budget) and e.left > 0 and e.running + gone < e.max_seqs and e.waiting > 0:
        root = s.queues[r, 0]
        q = s.requests[root]
        if q.ready > e.seen:
            break
        q.left = q.prompt + q.made - q.computed
        n = min(tokens(e, q, s.tenants[r, q.tenant]), q.left, e.left)
        if n <= 0:
            break
        whole = blocks(e, q, q.prompt + q.made) + e.fixed - q.held - q.shared
        if whole + (e.reserve if e.running > 0 else 0) > e.free + e.spare - kept:
            break
        s.queues[r, 0] = pop_waiting(s.requests, root)
        leave_queue(s, r, q)
        running[e.running] = root
        e.running += 1
        e.tokens += q.computed
        q.state = layout.RUNNING
        if q.scheduled != q.scheduled:
            q.scheduled = e.seen
        more = blocks(e, q, q.computed + n) + e.fixed - q.held - q.shared
        _take(s, e, q, n, more, group)
    if e.left == e.budget:
        e.next, e.at, e.idle = layout.IDLE, float("inf"), 1
        return
    e.idle, e.leaving, e.returned = 0, 0, 0
    step_price(group, s.tables, s.graphs, e)
    e.begun, e.next = e.at, layout.END
    e.at = e.begun + e.dt


@jit
def _take(s, e, q, n, more, group):  # type: ignore[no-untyped-def]
    """Put n tokens of request q into the step, with the blocks they need."""
    if more > 0:
        e.free -= more
        q.held += more
        e.peak = max(e.peak, e.blocks - e.free - e.spare)
    q.chunk = n
    e.left -= n
    if q.made > 0 and q.left == 1:
        e.decoding += 1
        e.context += q.computed + 1
    else:
        e.prompts += 1
        e.prompt_tokens += n
        chunk_price(group, s.tables, e, n, q.computed)
    if n == q.left:
        e.yields += 1


@jit
def preempt(s, r):  # type: ignore[no-untyped-def]
    """Send the newest running request of engine r back to its queue; its keys and values are computed again."""
    e, cluster = s.engines[r], s.cluster[0]
    e.running -= 1
    q = s.requests[s.running[r, e.running]]
    e.free += q.held
    e.tokens -= q.computed
    e.load += q.computed
    cluster.preemptions += 1
    cluster.recomputed += q.computed
    q.held, q.computed, q.chunk = 0, 0, 0
    q.preempted += 1
    join_queue(s, r, q)


@jit
def end(s, r):  # type: ignore[no-untyped-def]
    """What the step in flight leaves: tokens, requests that are done, and their blocks free again. Returns how many
    requests it finished; they stand at the end of ``scratch``."""
    e, cluster = s.engines[r], s.cluster[0]
    group = s.groups[e.group]
    running = s.running[r]
    now = e.at
    _account(s, e)
    seen = now + group.request
    last_gap, last_bin, kept, finished, made = -1.0, 0, 0, 0, 0
    for i in range(e.running):
        q = s.requests[running[i]]
        n = q.chunk
        if n > 0:
            q.chunk = 0
            q.computed += n
            e.tokens += n
            e.load -= n
            s.tenants[r, q.tenant].served += n
            if q.computed == q.prompt + q.made:
                q.made += 1
                made += 1
                if q.made == 1:
                    q.first = seen
                else:
                    gap = seen - q.last
                    if gap != last_gap:
                        last_gap, last_bin = gap, gap_bin(gap)
                    s.itl[last_bin] += 1
                    q.longest = max(q.longest, gap)
                q.last = seen
                if q.made == q.output:
                    q.state = layout.DONE
                    e.free += q.held
                    e.returned += q.held
                    e.leaving += 1
                    e.tokens -= q.computed
                    q.held = 0
                    s.tenants[r, q.tenant].running -= 1
                    s.scratch[finished] = running[i]
                    finished += 1
                    continue
        running[kept] = running[i]
        kept += 1
    e.running = kept
    cluster.output_tokens += made
    spread(cluster, s.series, layout.S_OUTPUT, e.begun, now, made / (now - e.begun))
    e.next = layout.BEGIN
    return finished


@jit
def _account(s, e):  # type: ignore[no-untyped-def]
    cluster, group, series = s.cluster[0], s.groups[e.group], s.series
    start, now = e.begun, e.at
    span = now - start
    log_step(cluster, s.log_step, s.log_time, e.id, e.decoding, e.prompt_tokens, start, now)
    cluster.steps += 1
    cluster.prompt_tokens += e.prompt_tokens
    busy = max(e.compute, e.memory, e.link)
    cluster.energy += (group.rated_power - group.idle_power) * min(busy, span)
    used = e.blocks - e.free - e.spare
    spread(cluster, series, layout.S_RUNNING, start, now, e.running)
    spread(cluster, series, layout.S_KV, start, now, used / e.blocks)
    if used > 0:
        spread(cluster, series, layout.S_FRAGMENTATION, start, now, max(0.0, 1.0 - e.tokens / (used * e.block)))
    spread(cluster, series, layout.S_PROMPT, start, now, e.prompt_tokens / span)
    spread(cluster, series, layout.S_COMPUTE, start, now, min(e.compute / span, 1.0))
    spread(cluster, series, layout.S_MEMORY, start, now, min(e.memory / span, 1.0))
    spread(cluster, series, layout.S_LINK, start, now, min(e.link / span, 1.0))
