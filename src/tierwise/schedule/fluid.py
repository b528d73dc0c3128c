"""Lanes that share capacities: event by event, every configuration through its own events, all at once.

What runs at once and asks for more of a capacity than there is slows in proportion: the most oversubscribed capacity
first (an equal factor for all who draw on it), then, with what those leave, the next. Nothing stays unused that
somebody asks for, and nothing is used by more than 1.

A repeat is cut short where the whole state recurs: places of all lanes relative to each other, what is left of each
running op, and what is done. A lane that runs ahead of the others without end (a copy lane without buffers) never lets
it recur, and every event is played.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tierwise.schedule._lanes import END, GATE, HALT, PASS, Code, Whole, code, ends
from tierwise.schedule.compiled import BadOrder
from tierwise.schedule.maxplus import EQUAL
from tierwise.schedule.types import Event, Order

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Flow:
    """What came out: seconds, (n,), and by lane (lanes, n); events if asked for."""

    time: Array
    busy: Array
    exposed: Array
    events: tuple[Event, ...] = ()


@dataclass
class _State:
    """Where n configurations are; arrays are (n, lanes) or (n, ops)."""

    at: Whole  # which configurations, (n,)
    pc: Whole
    turn: Whole  # of the section
    start: Whole  # what turns of issues count from
    running: NDArray[np.bool_]
    left: Array
    done: Whole  # newest turn done of each op
    time: Array
    busy: Array
    exposed: Array
    anchor: dict[str, NDArray[Any]] = field(default_factory=dict)

    def keep(self, go: NDArray[np.bool_]) -> None:
        """Drop all other configurations."""
        for name, value in vars(self).items():
            if name != "anchor":
                setattr(self, name, value[go])
        self.anchor = {k: v[go] for k, v in self.anchor.items()}


def flow(order: Order, duration: Array, draws: Array, turns: list[Whole], events: bool = False) -> Flow:
    """Play an order.

    Args:
        duration: of each op, (ops, n).
        draws: (ops, capacities, n).
        turns: executions of each section, (n,).
        events: keep them, of the only configuration; then no repeat is cut short.
    """
    program, lanes, n = code(order), len(order.lanes), duration.shape[1]
    count = np.stack([*turns, np.zeros(n, dtype=np.int64)], axis=1)
    first, last = ends(order, count)
    whole, real = np.zeros((n, lanes), dtype=np.int64), np.zeros((n, lanes))
    s = _State(np.arange(n), whole.copy(), whole.copy(), whole.copy(), np.zeros((n, lanes), dtype=bool), real.copy(),
               first - 1, np.zeros(n), real.copy(), real.copy())  # fmt: skip
    out = Flow(np.zeros(n), np.zeros((lanes, n)), np.zeros((lanes, n)))
    kept: list[Event] = []
    begun = np.zeros(lanes)
    steps = np.asarray([*(x.step for x in order.sections), 0], dtype=np.int64)
    at, lane = np.nonzero(np.ones((n, lanes), dtype=bool))
    _settle(program, s, at, lane, count, steps)
    row = np.arange(lanes)
    while len(s.at):
        next_ = program.op[row, s.pc]
        op = np.maximum(next_, 0)
        begin = ~s.running & (next_ >= 0)
        begin &= _ready(program, s, op, last[s.at])
        if begin.any():
            s.left = np.where(begin, duration[op, s.at[:, None]], s.left)
            s.running |= begin
            begun = np.where(begin[0], s.time[0], begun)
        idle = np.asarray(~s.running.any(axis=1))
        if idle.any():
            if (next_[idle] != HALT).any():
                stuck = sorted({order.ops[i] for i in next_[idle].ravel() if i >= 0})
                raise BadOrder("these wait for what never comes: " + ", ".join(stuck[:6]))
            gone = s.at[idle]
            out.time[gone], out.busy[:, gone], out.exposed[:, gone] = s.time[idle], s.busy[idle].T, s.exposed[idle].T
            s.keep(~idle)
            continue
        asked = np.where(s.running[:, :, None], draws[op, :, s.at[:, None]], 0.0)
        speed = rates(asked, s.running)
        need = np.where(s.running, s.left / speed, np.inf)
        step = need.min(axis=1)
        over = s.running & (need - step[:, None] <= EQUAL * duration[op, s.at[:, None]])
        s.time = s.time + step
        s.busy += np.where(s.running, step[:, None], 0.0)
        s.exposed[np.arange(len(s.at)), s.running.argmax(axis=1)] += step
        s.left = np.where(over, 0.0, s.left - speed * np.where(s.running, step[:, None], 0.0))
        turn = program.turn[row, s.pc] + s.start
        if events:
            kept += [Event(order.lanes[x], int(op[0, x]), int(turn[0, x]), float(begun[x]), float(s.time[0]))
                     for x in np.flatnonzero(over[0])]  # fmt: skip
        i, x = np.nonzero(over)
        s.done[i, op[i, x]] = turn[i, x]
        s.running &= ~over
        s.pc[i, x] += 1
        ended = _settle(program, s, i, x, count, steps)
        if not events:
            _jump(program, s, ended, count, steps)
    return Flow(out.time, out.busy, out.exposed, tuple(sorted(kept, key=lambda e: (e.start, e.end))))


def rates(asked: Array, running: NDArray[np.bool_]) -> Array:
    """How fast each lane advances, 1 being alone: (n, lanes), of draws (n, lanes, capacities)."""
    rate = np.ones(running.shape)
    fixed = np.zeros(running.shape, dtype=bool)
    for _ in range(asked.shape[2]):
        held = np.where(fixed[:, :, None], rate[:, :, None] * asked, 0.0).sum(axis=1)
        open_ = np.where(fixed[:, :, None], 0.0, asked).sum(axis=1)
        share = np.divide(1.0 - held, open_, out=np.full(open_.shape, np.inf), where=open_ > 0)
        worst = share.argmin(axis=1)
        low = np.take_along_axis(share, worst[:, None], axis=1)
        users = ~fixed & (low < 1.0) & (np.take_along_axis(asked, worst[:, None, None], axis=2)[:, :, 0] > 0)
        if not users.any():
            break
        rate = np.where(users, low, rate)
        fixed |= users
    return rate


def _ready(program: Code, s: _State, op: Whole, last: Whole) -> NDArray[np.bool_]:
    """Which lanes' next issues wait for nothing any more."""
    lanes = np.arange(op.shape[1])
    of = program.of[op]
    wanted = (program.turn[lanes, s.pc] + s.start)[:, :, None] - program.distance[op]
    n = np.arange(len(op))[:, None, None]
    section = program.section[lanes, s.pc][:, :, None]
    newest = last[n, section, of]  # the newest turn of it in the sections before
    final = last[n, -1, of]  # and in all
    wanted = np.where(program.before[op], newest, wanted)
    met: NDArray[np.bool_] = ((of < 0) | (wanted > final) | (s.done[n, of] >= wanted)).all(axis=2)
    return met


def _settle(program: Code, s: _State, i: Whole, x: Whole, count: Whole, steps: Whole) -> Whole:
    """Move lanes past the ends of sections to their next issue; returns whose turn each ended on the way (-1: none)."""
    ended = np.full(s.pc.shape, -1, dtype=np.int64)
    while len(i):
        what, section = program.op[x, s.pc[i, x]], program.section[x, s.pc[i, x]]
        turns, step = count[s.at[i], section], steps[section]
        gate, end, past = what == GATE, what == END, what == PASS
        out = gate & (s.turn[i, x] >= turns)
        ended[i[end], x[end]] = section[end]
        s.turn[i, x] = np.where(out, 0, s.turn[i, x] + end)
        s.start[i, x] += np.where(end, step, np.where(past, step * turns, 0))
        place = np.where(end, program.gate[x, section], s.pc[i, x] + (gate | past))
        s.pc[i, x] = np.where(out, program.end[x, section] + 1, place)
        go = gate | end | past
        i, x = i[go], x[go]
    return ended


def _jump(program: Code, s: _State, ended: Whole, count: Whole, steps: Whole) -> None:
    """Where the lane that stands for a section ends a turn in a state seen before, skip whole periods."""
    lanes = np.arange(ended.shape[1])
    marks = (ended >= 0) & (program.reference[ended] == lanes)
    i = np.flatnonzero(marks.any(axis=1))
    if not len(i):
        return
    lane = marks[i].argmax(axis=1)
    section = ended[i, lane]
    turn, start = s.turn[i, lane], s.start[i, lane]
    inside = program.section[lanes, s.pc[i]] == section[:, None]
    own = program.within[section]  # (i, ops)
    now: dict[str, NDArray[Any]] = {
        "section": section, "reached": turn, "pc": s.pc[i], "inside": inside, "running": s.running[i],
        "turn": s.turn[i] - turn[:, None] * inside, "start": s.start[i] - start[:, None] * inside,
        "done": s.done[i] - start[:, None] * own, "left": s.left[i], "time": s.time[i], "busy": s.busy[i],
        "exposed": s.exposed[i],
    }  # fmt: skip
    if not s.anchor:
        s.anchor = {k: np.zeros((len(s.at), *v.shape[1:]), dtype=v.dtype) for k, v in now.items()}
        s.anchor["section"] = np.full(len(s.at), -1)
        s.anchor["since"], s.anchor["room"] = np.zeros(len(s.at), dtype=np.int64), np.ones(len(s.at), dtype=np.int64)
    then = {k: v[i] for k, v in s.anchor.items()}
    same = then["section"] == section
    for name in ("pc", "inside", "running", "turn", "start", "done"):
        same &= (then[name] == now[name]).all(axis=1)
    period = s.time[i] - then["time"]
    same &= (np.abs(s.left[i] - then["left"]) <= EQUAL * period[:, None]).all(axis=1)
    # A lane that stands elsewhere must wait for the section as a whole, or for nothing in it.
    away = ~inside & (s.running[i] | program.counts[np.maximum(program.op[lanes, s.pc[i]], 0), section[:, None]])
    same &= ~(away & (program.op[lanes, s.pc[i]] != HALT)).any(axis=1)
    q = np.maximum(turn - then["reached"], 1)
    room = np.where(inside, count[s.at[i], section][:, None] - 1 - s.turn[i], np.iinfo(np.int64).max).min(axis=1)
    times = np.where(same, np.maximum(room // q - 1, 0), 0)  # one period is left for what waits for the end
    far = (times * q)[:, None]
    s.turn[i] += far * inside
    s.start[i] += far * inside * steps[section][:, None]
    s.done[i] += far * own * steps[section][:, None]
    s.time[i] += times * period
    s.busy[i] += times[:, None] * (s.busy[i] - then["busy"])
    s.exposed[i] += times[:, None] * (s.exposed[i] - then["exposed"])
    other = then["section"] != section
    since = np.where(other, 1, then["since"] + 1)
    limit = np.where(other, 1, then["room"])
    renew = other | (since >= limit)
    s.anchor["since"][i], s.anchor["room"][i] = np.where(renew, 0, since), np.where(renew & ~other, 2 * limit, limit)
    for name, value in now.items():
        s.anchor[name][i[renew]] = value[renew]
