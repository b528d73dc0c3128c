"""Seconds of a step, looked up in the tables of its group."""

from __future__ import annotations

from tierwise.serving.jit import jit
from tierwise.serving.loop.layout import WIDTH
from tierwise.serving.reordered import FIRST, JOULES, SCALE, WORKING


@jit
def chunk_price(group, tables, engine, new, context):  # type: ignore[no-untyped-def]
    """Add the attention of a prefill chunk of ``new`` tokens after ``context`` to the step being put together."""
    a, u = _place(tables, group.news, group.news_n, new)
    b, v = _place(tables, group.cacheds, group.cacheds_n, context)
    _between(tables, group.prefill, group.cacheds_n, a, u, b, v, engine)
    engine.past = context


@jit
def step_price(group, tables, graphs, engine):  # type: ignore[no-untyped-def]
    """Seconds of the step put together in ``engine``: its chunks are in ``dt`` already, the rest is added here."""
    d, prompt = engine.decoding, engine.prompt_tokens
    drafted = 0
    if engine.drafts > 0 and d > 0:
        drafted = d * (engine.tree * engine.drafts // engine.speculate)
        # Drafting takes a share of a plain decode step for each token, one after the other.
        chunks = (engine.dt, engine.compute, engine.memory, engine.link, engine.joules, engine.host_joules)
        nothing(engine)
        plain = _padded(graphs, group.graphs, group.graphs_n, d)
        _add(tables, group.tokens, group.tokens_n, max(plain, d), engine)
        _add(tables, group.heads, group.heads_n, d, engine)
        _decode(tables, group, engine, group.decode)
        share = engine.cost * engine.drafts
        engine.dt, engine.compute = chunks[0] + share * engine.dt, chunks[1] + share * engine.compute
        engine.memory, engine.link = chunks[2] + share * engine.memory, chunks[3] + share * engine.link
        engine.joules, engine.host_joules = chunks[4] + share * engine.joules, chunks[5] + share * engine.host_joules
    tokens, replayed = d + drafted + prompt, engine.rows < 0
    if engine.rows == 0:
        tokens, replayed = _rows(group, graphs, tokens, prompt)
    elif engine.rows < 0:
        tokens = -engine.rows
    if group.reordered > 0 and prompt > 0:
        _reordered(tables, group, engine, tokens, engine.yields + drafted)
    else:
        _add(tables, group.tokens, group.tokens_n, tokens, engine)
        _add(tables, group.heads, group.heads_n, engine.yields + drafted, engine)
        engine.dt += group.gap_sequence * (engine.yields + drafted)
        if d > 0:
            _decode(tables, group, engine, group.mixing if prompt > 0 else group.decode)
    if drafted > 0 and group.verifying > 0:
        one = group.seqs_n * group.contexts_n * WIDTH
        _decode(tables, group, engine, group.verifying + (engine.drafts - 1) * one)
    if engine.rows > 0:
        # Experts see the tokens of all ranks, everything else those of one.
        _swap(tables, group.experts, group.experts_n, tokens, engine.rows, engine)
    _finish(group, engine, replayed)


@jit
def steady_base(group, tables, graphs, engine):  # type: ignore[no-untyped-def]
    """What is the same in all steps in which the same sequences decode and nothing else is done, for
    :func:`steady_price`."""
    nothing(engine)
    tokens, replayed = _rows(group, graphs, engine.decoding, 0)
    _add(tables, group.tokens, group.tokens_n, tokens, engine)
    _add(tables, group.heads, group.heads_n, engine.yields, engine)
    engine.dt += group.gap_sequence * engine.yields
    a, u = _place(tables, group.seqs, group.seqs_n, engine.decoding)
    return replayed, a, u, engine.dt, engine.compute, engine.memory, engine.link, engine.joules, engine.host_joules


@jit
def steady_price(group, tables, engine, base):  # type: ignore[no-untyped-def]
    """Seconds of such a step at the context of ``engine``: to the last bit those of :func:`step_price`."""
    replayed, a, u, engine.dt, engine.compute, engine.memory, engine.link, engine.joules, engine.host_joules = base
    b, v = _place(tables, group.contexts, group.contexts_n, engine.context / engine.decoding)
    _between(tables, group.decode, group.contexts_n, a, u, b, v, engine)
    _finish(group, engine, replayed)


@jit
def _rows(group, graphs, tokens, prompt):  # type: ignore[no-untyped-def]
    """Rows of a step of so many tokens, and whether it replays a recorded graph."""
    padded = replayable(group, graphs, tokens, prompt)
    return (padded, True) if padded > 0 else (tokens, False)


@jit
def _finish(group, engine, replayed):  # type: ignore[no-untyped-def]
    """Of what the device does: beside launches, with the host's work, and within the power it may draw."""
    d, prompt = engine.decoding, engine.prompt_tokens
    if not replayed and group.launch > 0.0:
        if group.joined > 0:
            engine.dt = (engine.dt * engine.dt + group.launch * group.launch) ** 0.5
        elif engine.dt < group.launch:
            engine.dt = group.launch
    host = (group.host_step + group.host_sequence * (d + engine.prompts)
            + group.host_chunk * engine.prompts + group.host_token * prompt)  # fmt: skip
    # The host of steps put together ahead works beside the device.
    engine.dt = max(engine.dt, host) if group.ahead > 0 else engine.dt + host
    # What would draw more than it may takes longer; the host's processors have their own power.
    if engine.joules > group.power * engine.dt:
        engine.dt = engine.joules / group.power
    engine.joules += engine.host_joules


@jit
def replayable(group, graphs, tokens, prompt):  # type: ignore[no-untyped-def]
    """Tokens of the recorded graph that replays a step, ``prompt`` of whose tokens are of prompts; 0 for none."""
    if group.graphs_n == 0 or (prompt > 0 and tokens > group.mixed):
        return 0
    return _padded(graphs, group.graphs, group.graphs_n, tokens)


@jit
def _reordered(tables, group, engine, tokens, yields):  # type: ignore[no-untyped-def]
    """The same of a step with chunks whose ops do not run one after the other: what its sequences take off together
    (:mod:`tierwise.serving.reordered`)."""
    # Of chunks one after the other: seconds, and of them those in which engines and memory are busy.
    n = engine.prompts
    chunks, computing = engine.dt + group.once * n, engine.compute + group.once_compute * n
    loading, own, busy = engine.memory + group.once_memory * n, 0.0, 0.0
    alone = engine.decoding == 0 and n == 1
    if alone:
        nothing(engine)
        a, u = _place(tables, group.news, group.news_n, engine.prompt_tokens)
        b, v = _place(tables, group.cacheds, group.cacheds_n, engine.past)
        _between(tables, group.alone, group.cacheds_n, a, u, b, v, engine)
    _add(tables, group.tokens, group.tokens_n, tokens, engine)
    before = engine.dt
    _add(tables, group.heads if alone else group.yielding, group.heads_n, yields, engine)
    heads = engine.dt - before
    engine.dt += group.gap_sequence * yields
    if alone:
        return
    row, w = _place(tables, group.rows, group.rows_n, tokens)
    row, w = group.covering + row * group.covering_row, min(w, 1.0)
    if engine.decoding > 0:
        _decode(tables, group, engine, group.mixing)
        a, u = _place(tables, group.seqs, group.seqs_n, engine.decoding)
        b, v = _place(tables, group.contexts, group.contexts_n, engine.context / engine.decoding)
        at, down = group.in_line + 3 * (a * group.contexts_n + b), 3 * group.contexts_n
        own = _bilinear(tables, at, 3, down, u, v) + group.once
        compute = _bilinear(tables, at + 1, 3, down, u, v) + group.once_compute
        memory = _bilinear(tables, at + 2, 3, down, u, v) + group.once_memory
        busy = min(own, max(compute, memory))
        if group.draws > 1:  # decoding sequences cover first, chunks what is left
            engine.dt += (_covered(tables, group, row, w, computing / chunks, loading / chunks, own)
                          - _covered(tables, group, row, w, compute / own, memory / own, own))  # fmt: skip
    engine.dt -= _covered(tables, group, row, w, computing / chunks, loading / chunks, chunks + own)
    at = group.work + 2 * min(tokens, group.work_n - 1)
    engine.joules -= tables[at + JOULES]
    # Seconds in which the device works on rows, on heads and on sequences: those beside each other count once.
    busy += tables[at + WORKING] + heads + min(chunks, max(computing, loading))
    if engine.dt < busy:
        engine.joules -= group.active * (busy - engine.dt)


@jit
def _covered(tables, group, row, w, x, y, seconds):  # type: ignore[no-untyped-def]
    """Seconds that sequences of so many seconds take off, ``w`` of the way from a row of ``covering`` to the next;
    attention draws ``x`` on the engines and ``y`` on the memory."""
    scale = (1 - w) * tables[row + SCALE] + w * tables[row + group.covering_row + SCALE]
    i, v = _place(tables, group.levels, group.levels_n, seconds / scale)
    at, v, n = row + FIRST + i, min(v, 1.0), group.levels_n
    below = at + group.covering_row
    if group.draws == 1:
        return (1 - w) * _linear(tables, at, v) + w * _linear(tables, below, v)
    steps = group.draws - 1
    x, y = min(max(x, 0.0), 1.0) * steps, min(max(y, 0.0), 1.0) * steps
    j, k = min(int(x), steps - 1), min(int(y), steps - 1)
    x, y, off, down = x - j, y - k, (j * group.draws + k) * n, group.draws * n
    total = 0.0
    for start, share in ((at + off, 1 - w), (below + off, w)):
        total += share * ((1 - x) * ((1 - y) * _linear(tables, start, v) + y * _linear(tables, start + n, v))
                          + x * ((1 - y) * _linear(tables, start + down, v)
                                 + y * _linear(tables, start + down + n, v)))  # fmt: skip
    return total


@jit
def _linear(tables, at, v):  # type: ignore[no-untyped-def]
    return (1 - v) * tables[at] + v * tables[at + 1]


@jit
def _bilinear(tables, at, right, down, u, v):  # type: ignore[no-untyped-def]
    """``u`` of the way from a cell to the one below it, ``v`` to the one beside it."""
    return ((1 - u) * ((1 - v) * tables[at] + v * tables[at + right])
            + u * ((1 - v) * tables[at + down] + v * tables[at + down + right]))  # fmt: skip


@jit
def _decode(tables, group, engine, start):  # type: ignore[no-untyped-def]
    """Attention of the decoding sequences over their mean context, from the table that begins at ``start``."""
    a, u = _place(tables, group.seqs, group.seqs_n, engine.decoding)
    b, v = _place(tables, group.contexts, group.contexts_n, engine.context / engine.decoding)
    _between(tables, start, group.contexts_n, a, u, b, v, engine)


@jit
def _between(tables, start, columns, a, u, b, v, engine):  # type: ignore[no-untyped-def]
    """Add what a table says ``u`` of the way from row ``a`` to the next and ``v`` from column ``b`` to the next."""
    row, right = start + (a * columns + b) * WIDTH, WIDTH
    down = columns * WIDTH
    w00, w01, w10, w11 = (1 - u) * (1 - v), (1 - u) * v, u * (1 - v), u * v
    across = down + right
    engine.dt += (w00 * tables[row] + w01 * tables[row + right]
                  + w10 * tables[row + down] + w11 * tables[row + across])  # fmt: skip
    engine.compute += (w00 * tables[row + 1] + w01 * tables[row + right + 1]
                       + w10 * tables[row + down + 1] + w11 * tables[row + across + 1])  # fmt: skip
    engine.memory += (w00 * tables[row + 2] + w01 * tables[row + right + 2]
                      + w10 * tables[row + down + 2] + w11 * tables[row + across + 2])  # fmt: skip
    engine.link += (w00 * tables[row + 3] + w01 * tables[row + right + 3]
                    + w10 * tables[row + down + 3] + w11 * tables[row + across + 3])  # fmt: skip
    engine.joules += (w00 * tables[row + 4] + w01 * tables[row + right + 4]
                      + w10 * tables[row + down + 4] + w11 * tables[row + across + 4])  # fmt: skip
    engine.host_joules += (w00 * tables[row + 5] + w01 * tables[row + right + 5]
                       + w10 * tables[row + down + 5] + w11 * tables[row + across + 5])  # fmt: skip


@jit
def _add(tables, start, n, at, engine):  # type: ignore[no-untyped-def]
    # Beyond the table its last two rows go on: a prompt longer than the budget that the table was made for.
    i, f = at, 0.0
    if at > n - 1:
        i, f = n - 2, at - (n - 2.0)
        if n < 2:
            i, f = 0, 0.0
    row = start + i * WIDTH
    if f == 0.0:
        engine.dt += tables[row]
        engine.compute += tables[row + 1]
        engine.memory += tables[row + 2]
        engine.link += tables[row + 3]
        engine.joules += tables[row + 4]
        engine.host_joules += tables[row + 5]
    else:
        after = row + WIDTH
        engine.dt += tables[row] + f * (tables[after] - tables[row])
        engine.compute += tables[row + 1] + f * (tables[after + 1] - tables[row + 1])
        engine.memory += tables[row + 2] + f * (tables[after + 2] - tables[row + 2])
        engine.link += tables[row + 3] + f * (tables[after + 3] - tables[row + 3])
        engine.joules += tables[row + 4] + f * (tables[after + 4] - tables[row + 4])
        engine.host_joules += tables[row + 5] + f * (tables[after + 5] - tables[row + 5])


@jit
def _swap(tables, start, n, out, to, engine):  # type: ignore[no-untyped-def]
    """A table's price at ``to`` in place of that at ``out``."""
    dt, compute, memory, link = engine.dt, engine.compute, engine.memory, engine.link
    joules, host_joules = engine.joules, engine.host_joules
    nothing(engine)
    _add(tables, start, n, out, engine)
    engine.dt, engine.compute, engine.memory = dt - engine.dt, compute - engine.compute, memory - engine.memory
    engine.link, engine.joules = link - engine.link, joules - engine.joules
    engine.host_joules = host_joules - engine.host_joules
    _add(tables, start, n, to, engine)


@jit
def nothing(engine):  # type: ignore[no-untyped-def]
    """The step that an engine, or a rank of it, puts together has nothing in it yet."""
    engine.dt, engine.compute, engine.memory, engine.link, engine.joules = 0.0, 0.0, 0.0, 0.0, 0.0
    engine.host_joules = 0.0


@jit
def _place(tables, start, n, x):  # type: ignore[no-untyped-def]
    """Segment of an ascending axis that holds x, and how far along it; the last segments go on past the ends."""
    low, high = 0, n - 1
    while high - low > 1:
        middle = (low + high) // 2
        if tables[start + middle] <= x:
            low = middle
        else:
            high = middle
    left = tables[start + low]
    return low, (x - left) / (tables[start + low + 1] - left)


@jit
def _padded(graphs, start, n, size):  # type: ignore[no-untyped-def]
    """The smallest recorded batch that holds ``size``, 0 for none."""
    if n == 0 or size > graphs[start + n - 1]:
        return 0
    low, high = -1, n - 1
    while high - low > 1:
        middle = (low + high) // 2
        if graphs[start + middle] < size:
            low = middle
        else:
            high = middle
    return graphs[start + high]
