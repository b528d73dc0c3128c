"""Lanes that share nothing: when an order is done, for many configurations at once, exactly.

A repeat is cut short for an element only where the rest of it is certain:

- the whole state recurs up to one constant (after any number of turns), so everything after it does;
- or every row grows by a constant of its own, and in every wait the row that decides grows at least as fast as the
  others, so it decides for ever (a lane that runs ahead of the others without end).

Otherwise every turn is played.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tierwise.schedule.compiled import Compiled, Turn

Array = NDArray[np.float64]

# Equal to rounding: far below what any answer is good for, far above the last bit of a sum of many terms.
EQUAL = 1e-12
_BITS = 8.0 * float(np.finfo(np.float64).eps)


def finish(order: Compiled, duration: Array, turns: list[NDArray[np.int64]]) -> Array:
    """Seconds until the last lane is done.

    Args:
        duration: of each op, (ops, n).
        turns: executions of each section, (n,).
    """
    state = np.full((order.rows, duration.shape[1]), -np.inf)
    state[: order.lanes] = 0.0
    for turn, count in zip(order.turns, turns, strict=True):
        if order.newest:
            state[list(order.settled)] = state[list(order.newest)]
        state = _section(turn, state, duration, count)
    last: Array = np.max(state[: order.lanes], axis=0, initial=0.0)
    return last


def _section(turn: Turn, state: Array, duration: Array, count: NDArray[np.int64]) -> Array:
    if not turn.ops:
        return _emptied(turn, state, duration, count)
    out = np.empty_like(state)
    moving = np.flatnonzero(~np.asarray(turn.still))
    at = np.arange(state.shape[1])  # elements still being played
    left = count.astype(np.int64)
    # The first turn may wait for earlier sections, which no later one does again: it is no anchor.
    anchor, since, room = state, 0, 0
    settled = np.zeros(len(at), dtype=bool)
    now, spare = _rows(turn, state), _rows(turn, state)
    while True:
        ended = left == 0
        if ended.any():
            go = ~ended
            out[:, at[ended]] = state[:, ended]
            at, left, settled, anchor, duration = at[go], left[go], settled[go], anchor[:, go], duration[:, go]
            state = state[:, go]
            now, spare = _rows(turn, state), _rows(turn, state)
        if not len(at):
            return out
        play_turn(turn, now, duration, spare)
        before, state = now[: len(state)], spare[: len(state)]
        now, spare = spare, now
        left, since = left - 1, since + 1
        if left.max() > 0 and not settled.all():
            if room:
                _jump(state, anchor, moving, left, settled, since)
            if since >= room:
                if room > 1:
                    _run_ahead(turn, before, state, duration, left, settled)
                anchor, since, room = state.copy(), 0, max(2 * room, 1)


def _rows(turn: Turn, state: Array) -> Array:
    """Room for one turn, begun with a state."""
    row = np.empty((turn.size, state.shape[1]))
    row[: len(state)], row[len(state)] = state, -np.inf
    return row


def _emptied(turn: Turn, state: Array, duration: Array, count: NDArray[np.int64]) -> Array:
    """A section without issues still moves the count of turns on, until nothing is left to ask for."""
    for _ in range(0 if all(turn.still) else min(int(count.max(initial=0)), len(state))):
        now = _rows(turn, state)
        play_turn(turn, now, duration, now_after := np.empty_like(now))
        state, count = np.where(count > 0, now_after[: len(state)], state), count - 1
    return state


def play_turn(turn: Turn, row: Array, duration: Array, after: Array) -> None:
    """Play one turn of a section on its rows; the state that follows goes into the first rows of ``after``."""
    rows = len(turn.gather)
    for i, op, waits in zip(turn.ends, turn.ops, turn.waits, strict=True):
        start = row[waits[0]]
        for w in waits[1:]:
            start = np.maximum(start, row[w], out=row[i])
        np.add(start, duration[op], out=row[i])
    np.take(row, turn.gather, axis=0, out=after[:rows], mode="clip")


def _jump(
    state: Array, anchor: Array, moving: NDArray[np.int64], left: NDArray[np.int64], settled: NDArray[np.bool_], q: int
) -> None:
    """Skip all whole periods of ``q`` turns of elements whose state is that of the anchor, later by a constant."""
    # A few rows tell most elements apart, and cost little.
    few = moving[:: max(len(moving) // 4, 1)]
    at = np.flatnonzero(~settled & (left >= q))
    for rows in (few, moving):
        if not len(at):
            return
        newer = state[np.ix_(rows, at)]
        with np.errstate(invalid="ignore"):
            apart = newer - anchor[np.ix_(rows, at)]  # nan where a row is empty in both
            high, low = np.fmax.reduce(apart, axis=0), np.fmin.reduce(apart, axis=0)
            same = high - low <= EQUAL * high + _BITS * newer.max(axis=0)
        same |= np.isnan(high) & (rows is few)
        at, high = at[same], high[same]
        at, high = (at, high) if rows is few else (at[np.isfinite(high)], high[np.isfinite(high)])
    times = left[at] // q
    state[np.ix_(moving, at)] += times * high
    left[at] -= times * q
    settled[at] = True


def _run_ahead(
    turn: Turn, before: Array, state: Array, duration: Array, left: NDArray[np.int64], settled: NDArray[np.bool_]
) -> None:
    """Skip the rest for elements in which every row keeps a pace of its own and no wait will change its mind."""
    with np.errstate(invalid="ignore"):
        pace = np.where(np.isinf(state), 0.0, state - before)
        certain = ~settled & (left > 0) & np.isfinite(pace).all(axis=0)
    if not certain.any():
        return
    slack = EQUAL * pace.max(axis=0) + _BITS * state.max(axis=0)
    row = _rows(turn, state)
    speed = np.zeros_like(row)
    speed[: len(state)] = pace
    for i, op, waits in zip(turn.ends, turn.ops, turn.waits, strict=True):
        values, speeds = row[list(waits)], speed[list(waits)]
        start = values.max(axis=0)
        present = np.isfinite(values)
        speed[i] = np.where(values >= start - slack, speeds, 0.0).max(axis=0)
        certain &= np.where(present, speeds, 0.0).max(axis=0) <= speed[i] + slack
        row[i] = start + duration[op]
    index = list(turn.gather)
    certain &= np.all(np.abs(speed[index] - pace) <= slack, axis=0)
    # An empty row that fills up, or a full one that empties, is no steady state.
    certain &= np.all(np.isinf(row[index]) == np.isinf(state), axis=0)
    state += np.where(certain, left * pace, 0.0)
    left[certain] = 0
    settled |= certain
