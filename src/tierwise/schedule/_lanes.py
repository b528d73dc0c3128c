"""An order as one small program a lane: its issues, and jumps back at the ends of sections."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tierwise.schedule.compiled import lanes_of
from tierwise.schedule.types import Order, OrderEdge

Whole = NDArray[np.int64]

# What stands in place of an op: leave the section when all its turns are over; go back to its beginning; nothing in it
# for this lane; all is done.
GATE, END, PASS, HALT = -1, -2, -3, -4


@dataclass(frozen=True)
class Code:
    """Lanes as programs: (lanes, longest) of ops (or what to do at the ends of sections), turns and sections."""

    op: Whole
    turn: Whole
    section: Whole
    gate: Whole  # (lanes, sections): where a section begins
    end: Whole  # (lanes, sections): where it ends, -1 where the lane has nothing in it
    of: Whole  # (ops, most edges): what each op waits for, -1 for none
    distance: Whole
    before: NDArray[np.bool_]
    within: NDArray[np.bool_]  # (sections, ops): which ops are issued where
    counts: NDArray[np.bool_]  # (ops, sections): which ops wait for a certain turn of an op of a section
    reference: Whole  # (sections,): the lane whose turns are watched for recurrence


def code(order: Order) -> Code:
    """An order as programs of its lanes."""
    lanes, sections, ops = len(order.lanes), len(order.sections), len(order.ops)
    rows: list[list[tuple[int, int, int]]] = []
    gate, end = np.zeros((lanes, sections + 1), dtype=np.int64), np.zeros((lanes, sections + 1), dtype=np.int64)
    within, reference = np.zeros((sections + 1, ops), dtype=bool), np.full(sections + 1, -1)
    for x, name in enumerate(order.lanes):
        row: list[tuple[int, int, int]] = []
        for s, section in enumerate(order.sections):
            issues = section.lanes.get(name, ())
            if not issues:
                row.append((PASS, 0, s))
                continue
            gate[x, s] = len(row)
            row += [(GATE, 0, s), *((i.op, i.turn, s) for i in issues), (END, 0, s)]
            end[x, s] = len(row) - 1
            within[s, [i.op for i in issues]] = True
            reference[s] = x if reference[s] < 0 else reference[s]
        rows.append([*row, (HALT, 0, sections)])
    longest = max(map(len, rows), default=0)
    table = np.asarray([row + [row[-1]] * (longest - len(row)) for row in rows], dtype=np.int64)
    lane_of = lanes_of(order)
    into: list[list[OrderEdge]] = [[] for _ in order.ops]
    for e in order.waits:
        if lane_of[e.of] >= 0 and lane_of[e.of] != lane_of[e.to]:
            into[e.to].append(e)
    most = max(map(len, into), default=0)
    of, distance = np.full((ops, most), -1), np.zeros((ops, most), dtype=np.int64)
    before, counts = np.zeros((ops, most), dtype=bool), np.zeros((ops, sections + 1), dtype=bool)
    for op, edges in enumerate(into):
        for k, e in enumerate(edges):
            of[op, k], distance[op, k], before[op, k] = e.of, e.distance, e.before
            counts[op] |= within[:, e.of] & (not e.before)
    what, turns, places = (np.ascontiguousarray(table[:, :, k]) for k in range(3))
    return Code(what, turns, places, gate, end, of, distance, before, within, counts, reference)


def ends(order: Order, count: Whole) -> tuple[Whole, Whole]:
    """The turns that ops begin and end with.

    Args:
        count: executions of each section, (n, sections); what follows the last section counts none.

    Returns:
        First turn of each op, (n, ops), and its newest turn in the sections before each section and in all of them,
        (n, sections + 1, ops); one less than the first where there is none.
    """
    n, ops = len(count), len(order.ops)
    first = np.full((n, ops), np.iinfo(np.int64).max)
    newest = np.full((n, ops), np.iinfo(np.int64).min)
    start = np.zeros(n, dtype=np.int64)
    before = []
    for s, section in enumerate(order.sections):
        before.append(newest.copy())
        runs = count[:, s] > 0
        for issue in (i for row in section.lanes.values() for i in row):
            at = start + issue.turn
            end = at + (count[:, s] - 1) * section.step
            first[:, issue.op] = np.where(runs, np.minimum(first[:, issue.op], at), first[:, issue.op])
            newest[:, issue.op] = np.where(runs, np.maximum(newest[:, issue.op], end), newest[:, issue.op])
        start = start + section.step * count[:, s]
    first = np.where(newest < first, 0, first)
    return first, np.stack([np.maximum(b, first - 1) for b in (*before, newest)], axis=1)
