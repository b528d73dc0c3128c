"""Data-parallel ranks of one engine: each holds whole requests, and all step together, at the pace of the busiest.

Their blocks are one pool: requests are dealt out evenly, so that ranks fill up alike.
"""

from __future__ import annotations

from tierwise.serving.jit import jit
from tierwise.serving.loop import arrays as of
from tierwise.serving.loop.price import chunk_price, nothing, replayable, step_price


@jit
def empty(s, r):  # type: ignore[no-untyped-def]
    """No rank of engine r has anything in the step that is put together."""
    e = of.engines(s)[r]
    for k in range(e.ranks):
        rank = of.ranks(s)[r, k]
        rank.left, rank.decoding, rank.context, rank.prompts, rank.prompt_tokens = e.budget // e.ranks, 0, 0, 0, 0
        rank.yields = 0
        nothing(rank)


@jit
def least_loaded(s, r):  # type: ignore[no-untyped-def]
    """The rank with fewest sequences among those that have tokens left in this step."""
    e, ranks = of.engines(s)[r], of.ranks(s)[r]
    for k in range(e.ranks):
        ranks[k].width = 0
    for i in range(e.running):
        q = of.requests(s)[of.running(s)[r, i]]
        ranks[q.rank].width += q.samples
    best = 0
    for k in range(1, e.ranks):
        if ranks[k].left > 0 and (ranks[best].left <= 0 or ranks[k].width < ranks[best].width):
            best = k
    return best


@jit
def left_for(s, r, q):  # type: ignore[no-untyped-def]
    """Tokens of the step that are left for request q."""
    e = of.engines(s)[r]
    return e.left if e.ranks == 1 else of.ranks(s)[r, q.rank].left


@jit
def given(s, r, q, tokens):  # type: ignore[no-untyped-def]
    """Tokens that the scheduler gives request q, which sees the budget of its rank."""
    e, tenant = of.engines(s)[r], of.tenants(s)[r, q.tenant]
    if e.ranks == 1:
        return tokens(e, q, tenant)
    left, budget = e.left, e.budget
    e.left, e.budget = of.ranks(s)[r, q.rank].left, e.budget // e.ranks
    found = tokens(e, q, tenant)
    e.left, e.budget = left, budget
    return found


@jit
def decode_on(s, r, q, n):  # type: ignore[no-untyped-def]
    """Request q decodes on its rank, n tokens of the step."""
    rank = of.ranks(s)[r, q.rank]
    rank.left -= n
    rank.decoding += q.samples
    rank.yields += q.samples
    rank.context += q.samples * q.computed


@jit
def prefill_on(s, r, q, n):  # type: ignore[no-untyped-def]
    """The rank of request q computes n tokens of its prompt."""
    e, rank = of.engines(s)[r], of.ranks(s)[r, q.rank]
    rank.left -= n
    rank.prompts += 1
    rank.prompt_tokens += n
    rank.yields += q.samples if n == q.left else 1
    chunk_price(of.groups(s)[e.group], of.tables(s), rank, n, q.computed)


@jit
def grow(s, r):  # type: ignore[no-untyped-def]
    """Every decoding sequence of engine r has another token."""
    for k in range(of.engines(s)[r].ranks):
        of.ranks(s)[r, k].context += of.ranks(s)[r, k].decoding


@jit
def step_seconds(s, r):  # type: ignore[no-untyped-def]
    """Seconds of the step put together in engine r: those of its busiest rank, the rest of what each spends.

    Tables say what steps take whose ranks are all alike, so each is looked up as if all were like it, but for the
    experts. A rank with nothing to do runs one token of no request where others need its experts."""
    e = of.engines(s)[r]
    group = of.groups(s)[e.group]
    if e.ranks == 1:
        step_price(group, of.tables(s), of.graphs(s), e)
        return
    n, experts = e.ranks, group.experts_n > 0
    drafted = e.tree * e.drafts // max(e.speculate, 1)
    rows, most = 0, 0
    for k in range(n):
        rank = of.ranks(s)[r, k]
        tokens = rank.decoding * (1 + drafted) + rank.prompt_tokens
        rows, most = rows + max(tokens, 1), max(most, tokens)
    # Ranks that share experts replay a graph together, of one size, or none does.
    if experts:
        padded = replayable(group, of.graphs(s), n * most, e.prompt_tokens)
        e.rows = rows if padded == 0 else -padded
    whole = (e.decoding, e.context, e.prompts, e.prompt_tokens, e.yields)
    dt, compute, memory, link, joules = 0.0, 0.0, 0.0, 0.0, 0.0
    for k in range(n):
        rank = of.ranks(s)[r, k]
        idle = rank.decoding + rank.prompts == 0
        if idle and not experts:
            continue
        e.decoding, e.context = n * (1 if idle else rank.decoding), n * (1 if idle else rank.context)
        e.prompts, e.prompt_tokens, e.past = n * rank.prompts, n * rank.prompt_tokens, rank.past
        e.yields = n * (1 if idle else rank.yields)
        e.dt, e.compute, e.memory, e.link = n * rank.dt, n * rank.compute, n * rank.memory, n * rank.link
        e.joules, e.host_joules = n * rank.joules, n * rank.host_joules
        step_price(group, of.tables(s), of.graphs(s), e)
        dt, compute, memory = max(dt, e.dt), compute + e.compute / n, memory + e.memory / n
        link, joules = link + e.link / n, joules + e.joules / n
    e.decoding, e.context, e.prompts, e.prompt_tokens, e.yields = whole
    e.dt, e.compute, e.memory, e.link, e.joules, e.rows = dt, compute, memory, link, joules, 0
