"""Orders of pipelines: forward and backward of micro-batches through stages, each stage a lane."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from tierwise.core.errors import TierwiseError
from tierwise.core.num import Num, is_array
from tierwise.program.program import Program
from tierwise.program.types import Op
from tierwise.schedule.types import Buffer, Issue, Order, OrderEdge, Section

# (chunk, stage, backward?, micro-batch)
Step = tuple[int, int, bool, int]


def alternating(
    program: Program | None, stages: int, chunks: int, group: int, warm: Sequence[int], micro_batches: Num, links: bool
) -> Order:
    """Stage ``i`` runs ``warm[i]`` forwards, then one forward and one backward in turn, then what is left backwards.

    Args:
        chunks: parts of the model that each stage holds; the model goes through all stages ``chunks`` times.
        group: micro-batches that a stage runs in a row through one chunk before it goes on to the next.
        micro_batches: a multiple of ``group``; may be an array, of at least as many as fill the pipeline.
    """
    period = group * chunks  # forwards (and backwards) of a period
    # Stage i enters the period i pairs late: nothing then waits for a later turn of the period.
    late = [w + i for i, w in enumerate(warm)]
    fill = int(np.ceil(max(late) / period))
    turns = np.asarray(micro_batches) / group - fill
    if np.any(turns != np.floor(turns)) or np.any(np.asarray(micro_batches) < 1):
        raise TierwiseError(f"micro-batches come in whole groups of {group}")
    few = bool(np.any(turns < 0))
    if few and is_array(micro_batches):
        raise TierwiseError(f"counts of micro-batches in an array are at least {fill * group}, which fill the pipeline")

    def forward(stage: int, k: int) -> Step:
        return ((k // group) % chunks, stage, False, k // period * group + k % group)

    def backward(stage: int, k: int) -> Step:
        return (chunks - 1 - (k // group) % chunks, stage, True, k // period * group + k % group)

    def row(stage: int, start: int, end: int, total: int) -> list[Step]:
        """Steps ``start`` to ``end`` of all that a stage does."""
        w = min(warm[stage], total)
        out = [forward(stage, k) for k in range(w)]
        for k in range(total):
            out += [forward(stage, w + k)] * (w + k < total) + [backward(stage, k)]
        return out[start:end]

    if few:
        total = int(float(micro_batches)) * chunks
        parts = [[row(i, 0, 2 * total, total) for i in range(stages)]]
        return _order(program, stages, chunks, parts, (1.0,), (0,), links)
    whole = (fill + 1) * period
    begin = [w + 2 * i for i, w in enumerate(warm)]
    parts = [[row(i, 0, begin[i], whole) for i in range(stages)],
             [row(i, begin[i], begin[i] + 2 * period, whole) for i in range(stages)]]  # fmt: skip
    # The epilogue is what follows the last period, counted from its end.
    rest = [row(i, begin[i] + 2 * period, 2 * whole, whole) for i in range(stages)]
    parts.append([[(c, s, b, m - group) for c, s, b, m in steps] for steps in rest])
    return _order(program, stages, chunks, parts, (1.0, turns if is_array(turns) else float(turns), 1.0), (0, group, 0),
                  links)  # fmt: skip


def one_way(program: Program | None, stages: int, micro_batches: Num, links: bool) -> Order:
    """All forwards, then all backwards."""
    parts = [[[(0, i, back, 0)] for i in range(stages)] for back in (False, True)]
    made = _order(program, stages, 1, parts, (micro_batches, micro_batches), (1, 1), links)
    # The last stage turns round by itself: its backwards follow its forwards in the lane.
    return replace(made, edges=tuple(e for e in made.edges if _backward(made, e.of) == _backward(made, e.to)))


def _backward(order: Order, op: int) -> bool:
    return order.ops[op].startswith(("backward", "return"))


def _order(
    program: Program | None,
    stages: int,
    chunks: int,
    parts: Sequence[Sequence[Sequence[Step]]],
    turns: Sequence[Num],
    steps: Sequence[int],
    links: bool,
) -> Order:
    def name(what: str, c: int, s: int) -> str:
        return f"{what} {s}" if chunks == 1 else f"{what} {c}.{s}"

    ops: dict[str, int] = {}
    for what in ("forward", "backward", *(("send", "return") if links else ())):
        for c in range(chunks):
            for s in range(stages):
                if what not in ("send", "return") or _next(c, s, what == "return", stages, chunks):
                    ops[name(what, c, s)] = len(ops)
    edges = []
    for c in range(chunks):
        for s in range(stages):
            for back in (False, True):
                what, carry = ("backward", "return") if back else ("forward", "send")
                of, to = ops[name(what, c, s)], _next(c, s, back, stages, chunks)
                if to and links:
                    edges += [
                        OrderEdge(of, ops[name(carry, c, s)]),
                        OrderEdge(ops[name(carry, c, s)], ops[name(what, *to)]),
                    ]
                elif to:
                    edges.append(OrderEdge(of, ops[name(what, *to)]))
    edges.append(OrderEdge(ops[name("forward", chunks - 1, stages - 1)], ops[name("backward", chunks - 1, stages - 1)]))
    lanes = [f"stage {i}" for i in range(stages)]
    ways = [f"{way} {i}" for way in ("out", "back") for i in range(stages)] if links else []
    sections = []
    for part, count, step in zip(parts, turns, steps, strict=True):
        own = {lanes[i]: tuple(Issue(ops[name("backward" if b else "forward", c, s)], m) for c, s, b, m in row)
               for i, row in enumerate(part)}  # fmt: skip
        for way, carry, back in (("out", "send", False), ("back", "return", True)) if links else ():
            for i, row in enumerate(part):
                own[f"{way} {i}"] = tuple(Issue(ops[name(carry, c, s)], m) for c, s, b, m in row
                                          if b == back and _next(c, s, back, stages, chunks))  # fmt: skip
        sections.append(Section({lane: row for lane, row in own.items() if row}, count, step))
    buffers = [Buffer(name("activations", c, s), ops[name("forward", c, s)], ops[name("backward", c, s)], None)
               for c in range(chunks) for s in range(stages)]  # fmt: skip
    used = [x for x in (*lanes, *ways) if any(x in s.lanes for s in sections)]
    return Order(tuple(ops), tuple(used), tuple(sections), tuple(edges), tuple(buffers),
                 tuple(map(_work(program), ops)))  # fmt: skip


def _next(c: int, s: int, back: bool, stages: int, chunks: int) -> tuple[int, int] | None:
    """The chunk and stage that a micro-batch goes to next."""
    at = c * stages + s + (-1 if back else 1)
    return divmod(at, stages) if 0 <= at < stages * chunks else None


def _work(program: Program | None) -> Callable[[str], Op | None]:
    found = {} if program is None else {op.name: op for _, op in program.walk()}
    return found.get
