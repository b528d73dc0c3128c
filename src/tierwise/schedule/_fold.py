"""Pipelines whose rows are made for a few micro-batches and then repeated for as many as there are.

Rows are what each stage issues, in order. Played with nominal durations, a pipeline that is full does the same again
and again: what all stages start within one such period is a section, and a section is repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tierwise.core.errors import TierwiseError
from tierwise.core.num import Num, is_array
from tierwise.program.program import Program
from tierwise.program.types import Op
from tierwise.schedule.types import Buffer, Issue, Order, OrderEdge, Section

# An op by name, and its turn.
Task = tuple[str, int]
# (of, to, distance): execution ``turn`` of ``to`` waits for execution ``turn - distance`` of ``of``.
Wait = tuple[str, str, int]
Rows = Sequence[Sequence[Task]]


def folded(
    program: Program | None,
    rows: Callable[[int], Rows],
    waits: Callable[[Rows], Sequence[Wait]],
    nominal: Callable[[str], int],
    turns: Num,
    full: int,
    kept: Sequence[tuple[str, str]] = (),
) -> Order:
    """The order of rows that repeat once a pipeline is full.

    Args:
        rows: what each stage issues, for a number of turns.
        waits: what waits for what among them.
        nominal: whole units of time that an op is planned with.
        turns: of each op; may be an array, of at least ``full``.
        full: turns with which the pipeline is full for two periods.
        kept: (written by, last read by) of tensors that stages keep.

    Raises:
        TierwiseError: turns that are not whole, or an array of too few.
    """
    count = np.asarray(turns)
    if np.any(count != np.floor(count)) or np.any(count < 1):
        raise TierwiseError("micro-batches of a pipeline are whole numbers of at least 1")
    if not is_array(turns) and int(count) <= full:
        made = rows(int(count))
        return _order(program, made, [made], (1.0,), (0,), waits(made), kept)
    if np.any(count < full):
        raise TierwiseError(f"counts of micro-batches in an array are at least {full}, which fill the pipeline")
    made = rows(full)
    found = waits(made)
    starts = _starts(made, found, nominal)
    period = max(sum(nominal(op) for op in {op for op, _ in row}) for row in _middle(made, starts))
    cut = _cut(made, starts, period)
    parts: list[list[list[Task]]] = [[], [], []]
    for row, at in zip(made, starts, strict=True):
        edges = (0, *(sum(t < end for t in at) for end in (cut, cut + period)), len(row))
        for i in range(3):
            # What follows the period is counted from its end.
            parts[i].append([(op, turn - (i == 2)) for op, turn in row[edges[i] : edges[i + 1]]])
    again = count - full + 1.0
    return _order(program, made, parts, (1.0, again if is_array(turns) else float(again), 1.0), (0, 1, 0), found, kept)


def _middle(rows: Rows, starts: Sequence[Sequence[int]]) -> list[list[Task]]:
    """What each stage starts in the middle fifth of the time."""
    end = max(at[-1] for at in starts)
    return [[x for x, t in zip(row, at, strict=True) if 0.4 * end <= t < 0.6 * end]
            for row, at in zip(rows, starts, strict=True)]  # fmt: skip


def _starts(rows: Rows, waits: Sequence[Wait], nominal: Callable[[str], int]) -> list[list[int]]:
    """When every task starts."""
    into: dict[str, list[tuple[str, int]]] = {}
    for of, to, distance in waits:
        into.setdefault(to, []).append((of, distance))
    issued = {task for row in rows for task in row}
    end: dict[Task, int] = {}
    out: list[list[int]] = [[] for _ in rows]
    clock = [0] * len(rows)
    moved = True
    while moved:
        moved = False
        for i, row in enumerate(rows):
            while len(out[i]) < len(row):
                op, turn = row[len(out[i])]
                needed = [(of, turn - d) for of, d in into.get(op, ()) if (of, turn - d) in issued]
                if any(x not in end for x in needed):
                    break
                start = max([clock[i], *(end[x] for x in needed)])
                clock[i] = end[op, turn] = start + nominal(op)
                out[i].append(start)
                moved = True
    return out


def _cut(rows: Rows, starts: Sequence[Sequence[int]], period: int) -> int:
    """When a period begins that is followed by another, one turn later.

    Raises:
        TierwiseError: there is none.
    """
    by_time: list[Mapping[int, Task]] = [dict(zip(at, row, strict=True)) for row, at in zip(rows, starts, strict=True)]
    end = max(at[-1] for at in starts)
    same = 0
    for t in range(end - period):
        ok = all(_later(found.get(t)) == found.get(t + period) for found in by_time)
        same = same + 1 if ok else 0
        begin = t - period + 1
        if same >= period and all(any(begin <= s <= t for s in at) for at in starts):
            return begin
    raise TierwiseError("the pipeline does not come to repeat itself")


def _later(task: Task | None) -> Task | None:
    return None if task is None else (task[0], task[1] + 1)


def _order(
    program: Program | None,
    rows: Rows,
    parts: Sequence[Rows],
    turns: Sequence[Num],
    steps: Sequence[int],
    waits: Sequence[Wait],
    kept: Sequence[tuple[str, str]],
) -> Order:
    names = {op: i for i, op in enumerate(dict.fromkeys(op for row in rows for op, _ in row))}
    sections = [
        Section({f"stage {i}": tuple(Issue(names[op], turn) for op, turn in row) for i, row in enumerate(part) if row},
                n, step)
        for part, n, step in zip(parts, turns, steps, strict=True)
    ]  # fmt: skip
    edges = tuple(dict.fromkeys(OrderEdge(names[a], names[b], d) for a, b, d in waits if a in names and b in names))
    buffers = tuple(Buffer(f"activations {a.partition(' ')[2]}", names[a], names[b], None) for a, b in kept)
    work: dict[str, Op] = {} if program is None else {op.name: op for _, op in program.walk()}
    return Order(tuple(names), tuple(f"stage {i}" for i in range(len(rows))), tuple(sections), edges, buffers,
                 tuple(work.get(op) for op in names))  # fmt: skip


def split(path: Sequence[int], name: Callable[[str, int], str]) -> tuple[list[Wait], list[tuple[str, str]]]:
    """Waits and kept tensors of a pipeline whose backward pass is divided into gradients of inputs and of weights.

    Args:
        path: the stage of every part of the model, from its first to its last.
        name: of an op (``forward``, ``backward``, ``weights``) of a part.
    """
    waits = []
    last = len(path) - 1
    for j in range(len(path)):
        if j < last:
            waits.append((name("forward", j), name("forward", j + 1), 0))
            waits.append((name("backward", j + 1), name("backward", j), 0))
        waits.append((name("backward", j), name("weights", j), 0))
    waits.append((name("forward", last), name("backward", last), 0))
    return waits, [(name("forward", j), name("weights", j)) for j in range(len(path))]
