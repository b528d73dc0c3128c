"""KV blocks of one engine: taken, given back, shared through a prefix cache, pushed out to host and disk.

Blocks are free, held by a request, in the cache and used by some, or in the cache and spare. The cache works in units
of the trace's block identities; a unit is ``engine.unit`` blocks. Spare units form a list in order of last use.
"""

from __future__ import annotations

from tierwise.serving.jit import jit
from tierwise.serving.loop import arrays as of

# Rows of the lists: the engine's own spare units, then the host's and the disk's.
ENGINE_TIER, HOST_TIER, DISK_TIER = 0, 1, 2


@jit
def take_blocks(s, r, more):  # type: ignore[no-untyped-def]
    """Take free blocks of engine r, after pushing out as many spare units as that needs."""
    e = of.engines(s)[r]
    while e.free < more and e.spare > 0:
        u = of.spare_ends(s)[r, ENGINE_TIER, 0]
        unlink(of.spare_ends(s)[r, ENGINE_TIER], of.spare_links(s)[r, ENGINE_TIER], u)
        of.users(s)[r, u] = -1
        e.spare -= e.unit
        e.free += e.unit
        if e.host_units > 0 or e.disk_units > 0:
            _push_out(s, r, u)
    e.free -= more
    e.peak = max(e.peak, e.blocks - e.free - e.spare)


@jit
def matched(s, r, q):  # type: ignore[no-untyped-def]
    """Leading units of request q that the cache of engine r holds; never all of its tokens, for one must be left to
    compute."""
    e = of.engines(s)[r]
    start = of.block_start(s)[q.id]
    most = min(of.block_start(s)[q.id + 1] - start, (q.prompt + q.made - 1) // e.unit_tokens)
    k = 0
    while k < most and of.users(s)[r, of.blocks(s)[start + k]] >= 0:
        k += 1
    return k


@jit
def spare_of(s, r, q, units):  # type: ignore[no-untyped-def]
    """Blocks of the first units of request q that nobody uses now: they stop being spare once it does."""
    start, out = of.block_start(s)[q.id], 0
    for k in range(units):
        if of.users(s)[r, of.blocks(s)[start + k]] == 0:
            out += of.engines(s)[r].unit
    return out


@jit
def use_units(s, r, q, units):  # type: ignore[no-untyped-def]
    """Request q uses the first units of its prompt that the cache of engine r holds."""
    e, start = of.engines(s)[r], of.block_start(s)[q.id]
    for k in range(units):
        u = of.blocks(s)[start + k]
        if of.users(s)[r, u] == 0:
            unlink(of.spare_ends(s)[r, ENGINE_TIER], of.spare_links(s)[r, ENGINE_TIER], u)
            e.spare -= e.unit
        of.users(s)[r, u] += 1
    q.units = units
    q.shared = units * e.unit
    e.peak = max(e.peak, e.blocks - e.free - e.spare)


@jit
def publish(s, r, q, tokens):  # type: ignore[no-untyped-def]
    """Units of request q's prompt that are full once so many tokens are computed can be used by others."""
    e, start = of.engines(s)[r], of.block_start(s)[q.id]
    most = min(of.block_start(s)[q.id + 1] - start, min(tokens, q.prompt) // e.unit_tokens)
    while q.units < most and q.held >= e.unit:
        u = of.blocks(s)[start + q.units]
        if of.users(s)[r, u] >= 0:
            # Another request computed the same meanwhile: one copy is enough.
            if of.users(s)[r, u] == 0:
                unlink(of.spare_ends(s)[r, ENGINE_TIER], of.spare_links(s)[r, ENGINE_TIER], u)
                e.spare -= e.unit
            of.users(s)[r, u] += 1
            e.free += e.unit
        else:
            of.users(s)[r, u] = 1
        q.held -= e.unit
        q.shared += e.unit
        q.units += 1


@jit
def publish_answer(s, r, q):  # type: ignore[no-untyped-def]
    """What request q generated is part of the next turn's prompt: leave its full units in the cache."""
    e = of.engines(s)[r]
    if q.follower < 0 or q.samples > 1:
        return
    start = of.block_start(s)[q.follower]
    most = min(of.block_start(s)[q.follower + 1] - start, q.computed // e.unit_tokens)
    k = q.prompt // e.unit_tokens
    while k < most and q.held >= e.unit:
        u = of.blocks(s)[start + k]
        if of.users(s)[r, u] < 0:
            of.users(s)[r, u] = 0
            append(of.spare_ends(s)[r, ENGINE_TIER], of.spare_links(s)[r, ENGINE_TIER], u)
            q.held -= e.unit
            e.spare += e.unit
        k += 1


@jit
def release(s, r, q, held, units):  # type: ignore[no-untyped-def]
    """Give back blocks and uses of units; units that nobody uses stay, the first ones longest."""
    e, start = of.engines(s)[r], of.block_start(s)[q.id]
    e.free += held
    for k in range(units - 1, -1, -1):
        u = of.blocks(s)[start + k]
        of.users(s)[r, u] -= 1
        if of.users(s)[r, u] == 0:
            append(of.spare_ends(s)[r, ENGINE_TIER], of.spare_links(s)[r, ENGINE_TIER], u)
            e.spare += e.unit


@jit
def below(s, r, q, units):  # type: ignore[no-untyped-def]
    """Units after the first ``units`` that host or disk hold: (on the host, on the disk)."""
    e, start = of.engines(s)[r], of.block_start(s)[q.id]
    most = min(of.block_start(s)[q.id + 1] - start, (q.prompt + q.made - 1) // e.unit_tokens)
    host, disk = 0, 0
    for k in range(units, most):
        at = of.below(s)[e.pool, of.blocks(s)[start + k]]
        if at == HOST_TIER:
            host += 1
        elif at == DISK_TIER:
            disk += 1
        else:
            break
    return host, disk


@jit
def drop_cache(s, r):  # type: ignore[no-untyped-def]
    """Forget all spare units of engine r: it failed or went away."""
    e = of.engines(s)[r]
    while e.spare > 0:
        u = of.spare_ends(s)[r, ENGINE_TIER, 0]
        unlink(of.spare_ends(s)[r, ENGINE_TIER], of.spare_links(s)[r, ENGINE_TIER], u)
        of.users(s)[r, u] = -1
        e.spare -= e.unit
        e.free += e.unit


@jit
def _push_out(s, r, u):  # type: ignore[no-untyped-def]
    """A unit leaves the engine for the host, what that has no room for goes to the disk, and from there away."""
    e = of.engines(s)[r]
    pool, tier = of.engines(s)[e.pool], HOST_TIER if e.host_units > 0 else DISK_TIER
    old = of.below(s)[e.pool, u]
    if old > 0:
        unlink(of.spare_ends(s)[e.pool, old], of.spare_links(s)[e.pool, old], u)
        if old == HOST_TIER:
            pool.on_host -= 1
        else:
            pool.on_disk -= 1
    while tier > 0:
        append(of.spare_ends(s)[e.pool, tier], of.spare_links(s)[e.pool, tier], u)
        of.below(s)[e.pool, u] = tier
        if tier == HOST_TIER:
            pool.on_host += 1
            if pool.on_host <= e.host_units:
                return
            pool.on_host -= 1
        else:
            pool.on_disk += 1
            if pool.on_disk <= e.disk_units:
                return
            pool.on_disk -= 1
        u = of.spare_ends(s)[e.pool, tier, 0]
        unlink(of.spare_ends(s)[e.pool, tier], of.spare_links(s)[e.pool, tier], u)
        of.below(s)[e.pool, u] = 0
        tier = DISK_TIER if tier == HOST_TIER and e.disk_units > 0 else 0


@jit
def append(ends, links, u):  # type: ignore[no-untyped-def]
    """Put u at the end of a list: ends (2,) first and last, links (2, units) before and after."""
    last = ends[1]
    links[0, u], links[1, u] = last, -1
    if last >= 0:
        links[1, last] = u
    else:
        ends[0] = u
    ends[1] = u


@jit
def unlink(ends, links, u):  # type: ignore[no-untyped-def]
    """Take u out of its list."""
    before, after = links[0, u], links[1, u]
    if before >= 0:
        links[1, before] = after
    else:
        ends[0] = after
    if after >= 0:
        links[0, after] = before
    else:
        ends[1] = before
