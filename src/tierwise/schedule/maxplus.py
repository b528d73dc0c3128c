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
    return np.max(state[: order.lanes], axis=0, initial=0.0)


def _section(turn: Turn, state: Array, duration: Array, count: NDArray[np.int64]) -> Array:
    if not turn.ops:
        return state if np.all(np.asarray(turn.still)) else _emptied(turn, state, duration, count)
    out = np.empty_like(state)
    moving = ~np.asarray(turn.still)
    at = np.arange(state.shape[1])  # elements still being played
    left = count.astype(np.int64)
    # The first turn may wait for earlier sections, which no later one does again: it is no anchor.
    anchor, since, room = state, 0, 0
    settled = np.zeros(len(at), dtype=bool)
    while True:
        ended = left == 0
        if ended.any():
            out[:, at[ended]] = state[:, ended]
            go = ~ended
            at, left, settled, state, anchor = at[go], left[go], settled[go], state[:, go], anchor[:, go]
            duration = duration[:, go]
        if not len(at):
            return out
        before, state = state, play_turn(turn, state, duration)
        left, since = left - 1, since + 1
        if left.max() > 0 and not settled.all():
            if room:
                _jump(state, anchor, moving, left, settled, since)
            if since >= room:
                if room > 1:
                    _run_ahead(turn, before, state, duration, left, settled)
                anchor, since, room = state.copy(), 0, max(2 * room, 1)


def _emptied(turn: Turn, state: Array, duration: Array, count: NDArray[np.int64]) -> Array:
    """A section without issues still moves the count of turns on."""
    for _ in range(min(int(count.max(initial=0)), len(state))):
        go = count > 0
        state[:, go] = play_turn(turn, state[:, go], duration[:, go])
        count = count - 1
    return state


def play_turn(turn: Turn, state: Array, duration: Array) -> Array:
    """The state after one turn of a section."""
    rows, n = state.shape
    row = np.empty((rows + len(turn.ops) + 1, n))
    row[:rows], row[-1] = state, -np.inf
    for i, (op, waits) in enumerate(zip(turn.ops, turn.waits, strict=True), start=rows):
        start = row[waits[0]]
        for w in waits[1:]:
            start = np.maximum(start, row[w], out=row[i])
        np.add(start, duration[op], out=row[i])
    return row[list(turn.gather)]


def _jump(
    state: Array, anchor: Array, moving: NDArray[np.bool_], left: NDArray[np.int64], settled: NDArray[np.bool_], q: int
) -> None:
    """Skip all whole periods of ``q`` turns of elements whose state is that of the anchor, later by a constant."""
    with np.errstate(invalid="ignore"):
        apart = state[moving] - anchor[moving]  # nan where a row is empty in both
        high, low = np.fmax.reduce(apart, axis=0), np.fmin.reduce(apart, axis=0)
        scale = EQUAL * high + _BITS * state.max(axis=0)
        found = ~settled & (left >= q) & np.isfinite(high) & np.isfinite(low) & (high - low <= scale)
    if found.any():
        times = np.where(found, left // q, 0)
        state[moving] += np.where(found, times * np.where(found, high, 0.0), 0.0)
        left -= times * q
    settled |= found


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
    rows, n = state.shape
    row = np.empty((rows + len(turn.ops) + 1, n))
    speed = np.zeros_like(row)
    row[:rows], row[-1], speed[:rows] = state, -np.inf, pace
    for i, (op, waits) in enumerate(zip(turn.ops, turn.waits, strict=True), start=rows):
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
