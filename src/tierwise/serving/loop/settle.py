"""What a step leaves: tokens, requests that are done or handed over, and what was written down of it."""

from __future__ import annotations

from tierwise.serving.jit import jit
from tierwise.serving.loop import arrays as of
from tierwise.serving.loop import layout
from tierwise.serving.loop.kv import publish_answer, release
from tierwise.serving.loop.record import bins, count_gaps, log_step, spread
from tierwise.serving.loop.speculate import accepted


@jit
def end(s, r, lane):  # type: ignore[no-untyped-def]
    """The step in flight is over. Returns how many requests it finished or hands over; they stand in ``scratch``."""
    e, running = of.engines(s)[r], of.running(s)[r]
    seen = e.at + of.groups(s)[e.group].request
    among = account(s, e)
    kept, out, made, alive = 0, 0, 0, 0
    for i in range(e.running):
        item = running[i]
        q = of.requests(s)[item]
        n, tokens = q.chunk, 0
        if n != 0 and q.lane == lane:
            q.chunk = 0
        if n > 0 and q.lane == lane:
            if q.computed + n == q.prompt + q.made:
                tokens = _yield(s, e, q, seen)
                made += tokens * q.samples
                n += tokens - 1
            q.computed += n
            e.tokens += n
            e.load -= n
            if q.made == q.output:
                q.state = layout.DONE
                of.scratch(s)[out] = item
                out += 1
                of.tenants(s)[r, q.tenant].running -= 1
                if e.hold == 0:
                    give_back(s, r, q)
                    continue
            elif e.role == layout.PREFILL and tokens > 0:
                _hand_over(s, r, q)
                of.scratch(s)[out] = item
                out += 1
                continue
        if q.state != layout.DONE:
            alive += 1
        running[kept] = item
        kept += 1
    if kept > 0 and alive == 0:
        # The last of a static batch is done: all places are free at once.
        for i in range(kept):
            give_back(s, r, of.requests(s)[running[i]])
        kept = 0
    e.running = kept
    of.cluster(s)[0].output_tokens += made
    spread(of.cluster(s)[0], of.series(s), among, layout.S_OUTPUT, e.begun, e.at, made / max(e.at - e.begun, 1e-12))
    return out


@jit
def _yield(s, e, q, seen):  # type: ignore[no-untyped-def]
    """Request q gets its next token, and of the drafts those that are right. Returns how many in all."""
    cluster = of.cluster(s)[0]
    tokens = 1
    if e.drafts > 0 and q.made > 0:
        proposed = min(e.drafts, q.output - q.made - 1)
        right = accepted(cluster.seed, e.accept, q.id, q.made, proposed)
        cluster.drafted += e.drafts * q.samples
        cluster.accepted += right * q.samples
        tokens += right
    if q.made == 0:
        q.first = seen
    else:
        gap = seen - q.last
        count_gaps(cluster, of.edges(s), of.itl(s), gap, q.samples)
        q.longest = max(q.longest, gap)
    # Drafts that are right come together with the token before them.
    of.itl(s)[0] += (tokens - 1) * q.samples
    q.last = seen
    q.made += tokens
    return tokens


@jit
def give_back(s, r, q):  # type: ignore[no-untyped-def]
    """Request q leaves engine r: its blocks are free, or stay in the cache for others."""
    e = of.engines(s)[r]
    if e.unit > 0:
        publish_answer(s, r, q)
    before = e.free + e.spare
    release(s, r, q, q.held, q.units)
    e.returned += e.free + e.spare - before
    e.leaving += q.samples
    e.width -= q.samples
    e.tokens -= q.computed
    q.held, q.shared, q.units = 0, 0, 0
    if q.adapter >= 0 and e.slots > 0:
        of.adapter_users(s)[r, q.adapter] -= 1


@jit
def _hand_over(s, r, q):  # type: ignore[no-untyped-def]
    """Request q has its first token and goes on elsewhere; its keys and values stay here until they are fetched."""
    e = of.engines(s)[r]
    q.source, q.source_held, q.source_units = r, q.held, q.units
    q.held, q.shared, q.units = 0, 0, 0
    q.state = layout.MOVING
    of.tenants(s)[r, q.tenant].running -= 1
    e.leaving += q.samples
    e.width -= q.samples
    e.tokens -= q.computed
    if q.adapter >= 0 and e.slots > 0:
        of.adapter_users(s)[r, q.adapter] -= 1


@jit
def account(s, e):  # type: ignore[no-untyped-def]
    """Write down the step in flight of engine e, which ends now. Returns the bins of the series that it is in."""
    cluster, series = of.cluster(s)[0], of.series(s)
    start, now = e.begun, e.at
    span = max(now - start, 1e-12)
    log_step(cluster, of.log_step(s), of.log_time(s), e.id, e.decoding, e.prompt_tokens, start, now)
    cluster.steps += 1
    cluster.prompt_tokens += e.prompt_tokens
    cluster.energy += e.joules
    count_state(s, e, now)
    among = bins(cluster, series, start, now)
    if e.prompt_tokens > 0:
        spread(cluster, series, among, layout.S_PROMPT, start, now, e.prompt_tokens / span)
    # Of several steps in flight each keeps its stage busy only a part of the time.
    part = 1.0 / (span * max(e.stages, 1))
    spread(cluster, series, among, layout.S_COMPUTE, start, now, min(e.compute, span) * part)
    spread(cluster, series, among, layout.S_MEMORY, start, now, min(e.memory, span) * part)
    if e.link > 0.0:
        spread(cluster, series, among, layout.S_LINK, start, now, min(e.link, span) * part)
    return among


@jit
def count_state(s, e, now):  # type: ignore[no-untyped-def]
    """Write down how many run at engine e and what they hold, since that was last done."""
    cluster, series, start = of.cluster(s)[0], of.series(s), e.counted
    if now <= start:
        return
    e.counted = now
    among = bins(cluster, series, start, now)
    used = e.blocks - e.free - e.spare
    if e.running > 0:
        spread(cluster, series, among, layout.S_RUNNING, start, now, e.width)
    if used > 0:
        spread(cluster, series, among, layout.S_KV, start, now, used / e.blocks)
        empty = used - e.tokens / e.block
        if empty > 0.0:
            spread(cluster, series, among, layout.S_FRAGMENTATION, start, now, empty / e.blocks)
