"""An order made ready to be played: rows of numbers for completions, and who waits for which row.

Playing uncontended lanes is max-plus arithmetic: an execution ends at the largest of what it waits for, plus its
duration. The state between two turns of a section is one row a lane (when it is free again), one row each for those
completions that a later turn still asks for, and one row each for the last completion of an op by section.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from tierwise.core.errors import TierwiseError
from tierwise.core.num import Num
from tierwise.schedule.types import Order, OrderEdge, Section


class BadOrder(TierwiseError):
    """An order that cannot be played: what waits for what, and why it never comes."""


@dataclass(frozen=True)
class Turn:
    """One turn of a section as rows: the state's, one of minus infinity, then those that ends of issues are put in.

    Attributes:
        size: how many rows.
        ops: op of each issue, in an order in which everything comes after what it waits for.
        waits: rows whose largest is the start of each issue.
        ends: row that the end of each issue is put in; used again when nothing needs it any more.
        gather: for each row of the state after the turn, the row it is taken from.
        still: rows of the state that the turn hands on as they are.
    """

    size: int
    ops: tuple[int, ...]
    waits: tuple[tuple[int, ...], ...]
    ends: tuple[int, ...]
    gather: tuple[int, ...]
    still: tuple[bool, ...]


@dataclass(frozen=True)
class Compiled:
    """An order as rows.

    Attributes:
        lanes: how many; their rows come first.
        rows: rows of the state.
        turns: one a section.
        newest, settled: rows of the last completion of an op that is waited for by section, as it runs and as it was
            when the section began.
    """

    lanes: int
    rows: int
    turns: tuple[Turn, ...]
    newest: tuple[int, ...]
    settled: tuple[int, ...]


def compiled(order: Order) -> Compiled:
    """The order as rows.

    Raises:
        BadOrder: an op in two lanes, turns with gaps, or something that waits for what comes later.
    """
    lane_of = lanes_of(order)
    _check(order, lane_of)
    waits = [e for e in order.waits if lane_of[e.of] >= 0 and lane_of[e.to] >= 0 and lane_of[e.of] != lane_of[e.to]]
    into: dict[int, list[OrderEdge]] = {}
    for e in waits:
        into.setdefault(e.to, []).append(e)
    keys = _keys(order, into)
    whole = sorted({e.of for e in waits if e.before})
    rows = len(order.lanes) + len(keys)
    newest = {op: rows + i for i, op in enumerate(whole)}
    settled = {op: rows + len(whole) + i for i, op in enumerate(whole)}
    rows += 2 * len(whole)
    number = {key: len(order.lanes) + i for i, key in enumerate(keys)}
    turns = tuple(_turn(order, s, into, number, newest, settled, rows) for s in order.sections)
    return Compiled(len(order.lanes), rows, turns, tuple(newest.values()), tuple(settled.values()))


def lanes_of(order: Order) -> tuple[int, ...]:
    """Number of the lane that each op stands in, -1 for one that is never issued."""
    out = [-1] * len(order.ops)
    for section in order.sections:
        for name, issues in section.lanes.items():
            lane = order.lanes.index(name)
            for issue in issues:
                if out[issue.op] not in (-1, lane):
                    both = f"{order.lanes[out[issue.op]]} and {name}"
                    raise BadOrder(f"{order.ops[issue.op]} stands in two lanes, {both}")
                out[issue.op] = lane
    return tuple(out)


def executions(order: Order) -> list[Num]:
    """How often each op runs in all."""
    out: list[Num] = [0.0] * len(order.ops)
    for section in order.sections:
        for issues in section.lanes.values():
            for issue in issues:
                out[issue.op] = out[issue.op] + section.turns
    return out


def _keys(order: Order, into: dict[int, list[OrderEdge]]) -> list[tuple[int, int]]:
    """(op, turn counted from the end of a section's turn) of all completions that a later turn may ask for."""
    low: dict[int, int] = {}
    for section in order.sections:
        own = _own(section)
        for op, turn in own:
            for e in into.get(op, ()):
                key = (e.of, turn - e.distance)
                if not e.before and key not in own:
                    low[e.of] = min(low.get(e.of, key[1]), key[1])
    high: dict[int, int] = {}
    for s, section in enumerate(order.sections):
        if s == len(order.sections) - 1 and bool(np.all(np.asarray(section.turns) <= 1)):
            break  # nothing comes after
        for op, turn in _own(section):
            high[op] = max(high.get(op, turn - section.step), turn - section.step)
    return [(op, turn) for op in sorted(low) if op in high for turn in range(low[op], high[op] + 1)]


def _own(section: Section) -> dict[tuple[int, int], None]:
    return {(i.op, i.turn): None for issues in section.lanes.values() for i in issues}


def _turn(
    order: Order,
    section: Section,
    into: dict[int, list[OrderEdge]],
    number: dict[tuple[int, int], int],
    newest: dict[int, int],
    settled: dict[int, int],
    rows: int,
) -> Turn:
    placed = _sorted(order, section, into)
    never = rows
    row = {key: rows + 1 + i for i, key in enumerate(placed)}
    previous = {order.lanes.index(name): order.lanes.index(name) for name in section.lanes}
    lane = {(i.op, i.turn): order.lanes.index(name) for name, issues in section.lanes.items() for i in issues}
    waits: list[tuple[int, ...]] = []
    last: dict[int, int] = {}
    for op, turn in placed:
        mine = lane[op, turn]
        needed = [previous[mine]]
        for e in into.get(op, ()):
            key = (e.of, turn - e.distance)
            found = settled[e.of] if e.before else row.get(key, number.get(key))
            if found is not None and found not in needed:
                needed.append(found)
        waits.append(tuple(needed))
        previous[mine] = last[op] = row[op, turn]
    gather = [previous.get(i, i) for i in range(len(order.lanes))]
    for op, turn in number:
        key = (op, turn + section.step)
        gather.append(row.get(key, number.get(key, never)))
    gather += [last.get(op, at) for op, at in newest.items()] + list(settled.values())
    still = tuple(g == i for i, g in enumerate(gather))
    put = _reused(waits, gather, rows + 1)
    return Turn(max(put, default=0) + 1, tuple(op for op, _ in placed), tuple(tuple(put[w] for w in x) for x in waits),
                tuple(put[rows + 1 :]), tuple(put[g] for g in gather), still)  # fmt: skip


def _reused(waits: list[tuple[int, ...]], gather: list[int], fixed: int) -> list[int]:
    """Fewer rows for the same: where each row is put, a row being free again after its last use."""
    last = {w: i for i, row in enumerate(waits) for w in row}
    last |= dict.fromkeys(gather, len(waits))
    freed: dict[int, list[int]] = {}
    put = list(range(fixed))
    free: list[int] = []
    size = fixed
    for i in range(len(waits)):
        if free:
            at = free.pop()
        else:
            at, size = size, size + 1
        put.append(at)
        freed.setdefault(last.get(fixed + i, i), []).append(at)
        free += freed.pop(i, [])
    return put


def _sorted(order: Order, section: Section, into: dict[int, list[OrderEdge]]) -> list[tuple[int, int]]:
    """The issues of a turn, each after those that it waits for in the same turn."""
    own = _own(section)
    after: dict[tuple[int, int], list[tuple[int, int]]] = {key: [] for key in own}
    open_: dict[tuple[int, int], int] = dict.fromkeys(own, 0)
    for issues in section.lanes.values():
        for a, b in pairwise(issues):
            after[a.op, a.turn].append((b.op, b.turn))
            open_[b.op, b.turn] += 1
    for op, turn in own:
        for e in into.get(op, ()):
            key = (e.of, turn - e.distance)
            if not e.before and key in own:
                after[key].append((op, turn))
                open_[op, turn] += 1
    queue = [key for key, n in open_.items() if n == 0]
    for key in queue:
        for follower in after[key]:
            open_[follower] -= 1
            if open_[follower] == 0:
                queue.append(follower)
    if len(queue) < len(own):
        stuck = sorted({order.ops[op] for (op, _), n in open_.items() if n})
        raise BadOrder("these wait for each other: " + ", ".join(stuck[:6]))
    return queue


def _check(order: Order, lane_of: tuple[int, ...]) -> None:
    """Write a few turns of every section out, and see that all dependencies point back."""
    for b in order.buffers:
        if b.copies is not None and b.copies <= b.distance:
            raise BadOrder(f"buffer {b.name!r}: {b.copies} copies of a tensor that is read {b.distance} turns later; "
                           f"at least {b.distance + 1} are needed")  # fmt: skip
    turns = [i.turn for s in order.sections for row in s.lanes.values() for i in row]
    reach = max(turns, default=0) - min(turns, default=0) + max((abs(e.distance) for e in order.waits), default=0) + 2
    when: dict[tuple[int, int], tuple[int, int, int]] = {}  # section, execution of it, place in the lane
    newest: dict[int, int] = {}
    start = 0
    for s, section in enumerate(order.sections):
        for r in range(min(reach, int(np.max(section.turns)))):
            for row in section.lanes.values():
                for place, issue in enumerate(row):
                    turn = issue.turn + start
                    if turn != newest.get(issue.op, turn - 1) + 1:
                        raise BadOrder(f"{order.ops[issue.op]}: turn {turn} follows turn {newest[issue.op]}")
                    newest[issue.op] = turn
                    when[issue.op, turn] = (s, r, place)
            start += section.step
    of: dict[int, list[tuple[int, tuple[int, int, int]]]] = {}
    for (op, turn), at in when.items():
        of.setdefault(op, []).append((turn, at))
    for e in order.waits:
        for turn, (s, r, place) in () if e.before else of.get(e.to, ()):
            found = when.get((e.of, turn - e.distance))
            if found is not None and (found[:2] > (s, r) or (
                found[:2] == (s, r) and lane_of[e.to] == lane_of[e.of] and found[2] >= place
            )):  # fmt: skip
                raise BadOrder(f"{order.ops[e.to]} at turn {turn} waits for {order.ops[e.of]}, which is issued later")
