"""The exact search of :mod:`tierwise.memory.packing`, compiled.

Any packing can be pushed down until every buffer rests on the arena's floor or on another, and be built in order of
offsets. So the search places one buffer after the other, each on top of what it rests on, never below the last one
placed (a canonical order, MiniMalloc, ASPLOS 2023). It gives a branch up where

- the buffers left at some moment do not fit: taken in the order of their lowest offsets, each on the one before, they
  end above the capacity (the bound of one machine with release dates, exact for one moment);
- another buffer fits wholly below the one to be placed: placing that first loses nothing;
- what is left was left before, with the same lowest offsets, and could not be placed.

Buffers left that share no moment are solved apart. Orders of equal candidates are tried in turn, with ever more nodes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tierwise.core.errors import TierwiseError

try:
    import numba as _numba
except ImportError as error:  # pragma: no cover
    raise TierwiseError("exact allocation needs numba: pip install 'tierwise[serve]'") from error

numba: Any = _numba
Whole = NDArray[np.int64]
State = tuple[Whole, NDArray[np.bool_], Whole, Whole, Whole, Whole, Whole]

SOLVED, UNKNOWN, IMPOSSIBLE = 1, 0, -1
NAMES = {SOLVED: "packed", IMPOSSIBLE: "impossible"}
FIRST = 2000  # nodes of the first try of each order
MORE = 8  # and by how much more of the next
CORES = 2
STOP = 1 << 60  # nodes of a try that is to end
TABLE = 1 << 21  # states remembered


def search(
    lower: Whole,
    upper: Whole,
    size: Whole,
    over: NDArray[np.bool_],
    capacity: int,
    until: float,
    told: Callable[[int, float], None] | None = None,
) -> tuple[str, Whole | None, int]:
    """(``packed``, ``impossible`` or ``unknown``; offsets; nodes tried).

    Args:
        until: moment of ``time.perf_counter`` to stop at.
    """
    n = len(size)
    points = np.unique(np.concatenate([lower, upper]))
    first, last = np.searchsorted(points, lower), np.searchsorted(points, upper)
    inside, when = _moments(first, last, len(points) - 1)
    load = inside.T.astype(np.int64) @ size
    fixed = (size.astype(np.int64), first.astype(np.int64), last.astype(np.int64),
             *_rows(over), *_rows(inside.T), when)  # fmt: skip
    words = np.random.default_rng(0).integers(1, 2**63, n).astype(np.uint64)
    table, every = np.zeros(TABLE, dtype=np.uint64), np.argsort(first, kind="stable")
    ranks = _ranks(upper - lower, size, np.where(inside, load[None], 0).max(axis=1, initial=0))
    running: list[_Run] = []

    def run(way: int, limit: int) -> _Run:
        one = _Run(_state(n, inside.shape[1]))
        running.append(one)
        bounds = (np.int64(capacity), np.int64(limit), np.int64(way))
        given = (ranks[way], words, *fixed)
        one.status = _place(every, np.int64(0), np.int64(-1), 0, given, bounds, (table, *one.state))
        return one

    return _raced(run, len(ranks), until, running, told)


@dataclass
class _Run:
    """A try of one order. ``state``: as :func:`_state`."""

    state: State
    status: int = UNKNOWN

    @property
    def nodes(self) -> int:
        return int(self.state[3][0])


def _raced(
    run: Callable[[int, int], _Run],
    ways: int,
    until: float,
    running: list[_Run],
    told: Callable[[int, float], None] | None,
) -> tuple[str, Whole | None, int]:
    """What the first try that ends one way or the other found; tries take turns on two cores, with ever more nodes."""
    began, limit, way = time.perf_counter(), FIRST, 0
    with ThreadPoolExecutor(CORES) as pool:
        jobs: set[Future[_Run]] = set()
        try:
            while time.perf_counter() < until:
                while len(jobs) < CORES:
                    jobs.add(pool.submit(run, way, limit))
                    way, limit = (way + 1, limit) if way + 1 < ways else (0, limit * MORE)
                ended, jobs = wait(jobs, min(0.2, max(until - time.perf_counter(), 0.0)), FIRST_COMPLETED)
                nodes = sum(one.nodes for one in running)
                if told is not None:
                    told(nodes, time.perf_counter() - began)
                for job in ended:
                    one = job.result()
                    if one.status != UNKNOWN:
                        return NAMES[one.status], one.state[2] if one.status == SOLVED else None, nodes
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            # Again until they end: a try may just be starting, or be counting a node.
            while jobs:
                for one in running:
                    one.state[3][0] = STOP
                # One cancelled before it began never counts as done.
                jobs = {job for job in wait(jobs, 0.02).not_done if not job.cancelled()}
    return "unknown", None, nodes


def _state(n: int, moments: int) -> State:
    """What changes while a search runs: (lowest offsets, placed, offsets, counts: nodes and checks; moments in the
    order that they are checked in, those that failed last first; lowest offsets saved by depth; the check before
    which each was lifted last)."""
    whole = (np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.bool_), np.zeros(n, dtype=np.int64))
    saved, lifted = np.zeros((2 * n + 2, n), dtype=np.int64), np.full(n, -1, dtype=np.int64)
    return (*whole, np.zeros(2, dtype=np.int64), np.arange(moments), saved, lifted)


def _moments(first: Whole, last: Whole, count: int) -> tuple[NDArray[np.bool_], Whole]:
    """(which buffers live at which moment, (n, moments); the moments): those whose buffers all live at a neighbour are
    left out."""
    at = np.arange(count)
    inside = (first[:, None] <= at) & (at < last[:, None])
    keep = []
    for s in range(count):
        covered = any(
            bool(np.all(inside[:, s] <= inside[:, t])) and (t < s or not np.array_equal(inside[:, s], inside[:, t]))
            for t in (s - 1, s + 1)
            if 0 <= t < count
        )
        if not covered:
            keep.append(s)
    return np.asarray(inside[:, keep]), np.asarray(keep, dtype=np.int64)


def _rows(m: NDArray[np.bool_]) -> tuple[Whole, Whole]:
    """A relation as (start of each row, columns)."""
    return (np.concatenate([[0], np.cumsum(m.sum(axis=1))]).astype(np.int64), np.nonzero(m)[1].astype(np.int64))


def _ranks(span: Whole, size: Whole, load: Whole) -> list[Whole]:
    """Orders in which equal candidates are tried, as the place of each buffer in them."""
    area = span.astype(float) * size
    out = []
    for keys in ((load, area, span), (load, span, area), (span, area, load), (area, span, load), (size, span)):
        rank = np.empty(len(size), dtype=np.int64)
        rank[np.lexsort([-k for k in keys[::-1]])] = np.arange(len(size))
        out.append(rank)
    return out


@numba.njit(cache=True, nogil=True)
def _fits(at, floor, begins, ends, capacity, fixed, state):  # type: ignore[no-untyped-def]
    """Whether at every moment of a time the buffers left, stacked in the order of their lowest offsets, none below
    ``at``, end below the capacity. A moment that fails moves to the front: it is likely to fail next time.
    One where nothing was lifted, by what was placed last or by ``at`` over the ``floor`` before, fits as it did."""
    size, member_at, member, when = fixed[2], fixed[7], fixed[8], fixed[9]
    lowest, placed, counts, order, lifted = state[1], state[2], state[4], state[5], state[7]
    release, sizes = np.empty(64, np.int64), np.empty(64, np.int64)
    for k in range(len(order)):
        s = order[k]
        if when[s] < begins or when[s] >= ends:
            continue
        begin, end = member_at[s], member_at[s + 1]
        if end - begin > len(release):
            release, sizes = np.empty(end - begin, np.int64), np.empty(end - begin, np.int64)
        m, same = 0, True
        for q in range(begin, end):
            u = member[q]
            if not placed[u] and (lifted[u] == counts[1] or (floor < at and lowest[u] < at)):
                same = False
                break
        if same:
            continue
        for q in range(begin, end):
            u = member[q]
            if placed[u]:
                continue
            r, j = max(lowest[u], at), m
            while j > 0 and release[j - 1] > r:
                release[j], sizes[j] = release[j - 1], sizes[j - 1]
                j -= 1
            release[j], sizes[j] = r, size[u]
            m += 1
        top = np.int64(0)
        for j in range(m):
            top = max(top, release[j]) + sizes[j]
        if top > capacity:
            for j in range(k, 0, -1):
                order[j] = order[j - 1]
            order[0] = s
            return False
    return True


@numba.njit(cache=True, nogil=True)
def _left_before(left, floor, before, ties, way, words, lowest, table):  # type: ignore[no-untyped-def]
    """(place in the table, key, whether it is there) of the buffers left with their lowest offsets."""
    key = np.uint64(floor) * np.uint64(0x9E3779B97F4A7C15)
    if ties:
        key += np.uint64((before + 2) * 64 + way) * np.uint64(0xD6E8FEB86659FD93)
    for u in left:
        x = (np.uint64(lowest[u]) + words[u]) * np.uint64(0xBF58476D1CE4E5B9)
        x ^= x >> np.uint64(31)
        x *= np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(29)
        key += x
    if key == 0:
        key = np.uint64(1)
    mask = np.uint64(len(table) - 1)
    slot = key & mask
    for _ in range(8):
        if table[slot] == key:
            return slot, key, True
        if table[slot] == 0:
            break
        slot = (slot + np.uint64(1)) & mask
    return slot, key, False


@numba.njit(cache=True, nogil=True)
def _place(left, floor, before, depth, fixed, bounds, state):  # type: ignore[no-untyped-def]
    """Place the buffers ``left``, sorted by start, none below ``floor``; of those at it, none of a rank under
    ``before``."""
    rank, words, size, first, last, near_at, near = fixed[0], fixed[1], fixed[2], fixed[3], fixed[4], fixed[5], fixed[6]
    capacity, limit, way = bounds
    table, lowest, placed, offsets, counts = state[0], state[1], state[2], state[3], state[4]
    saved, lifted = state[6], state[7]
    k = len(left)
    if k == 0:
        return 1
    counts[0] += 1
    if counts[0] > limit:
        return 0
    begin, reach = 0, last[left[0]]
    for i in range(1, k + 1):
        if i == k:
            if begin == 0:
                break
            return _place(left[begin:], floor, before, depth + 1, fixed, bounds, state)
        u = left[i]
        if first[u] >= reach:
            found = _place(left[begin:i], floor, before, depth + 1, fixed, bounds, state)
            if found != 1:
                return found
            begin, reach = i, last[u]
        reach = max(reach, last[u])

    # What else fits below ends here: a buffer to be placed higher would come later.
    below = np.int64(1) << 60
    ties = False
    for u in left:
        below = min(below, max(lowest[u], floor) + size[u])
        ties = ties or lowest[u] == floor
    slot, key, known = _left_before(left, floor, before, ties, way, words, lowest, table)
    if known:
        return -1

    count = 0
    chosen = np.empty(k, np.int64)
    for u in left:
        m = lowest[u]
        if floor <= m < below and m + size[u] <= capacity and not (m == floor and rank[u] < before):
            j = count
            while j > 0:
                v = chosen[j - 1]
                if lowest[v] < m or (lowest[v] == m and rank[v] < rank[u]):
                    break
                chosen[j] = v
                j -= 1
            chosen[j] = u
            count += 1
    changed, was, rest = np.empty(k, np.int64), np.empty(k, np.int64), np.empty(k - 1, np.int64)
    for c in range(count):
        b = chosen[c]
        at = lowest[b]
        top = at + size[b]
        placed[b], offsets[b] = True, at
        moved = 0
        counts[1] += 1
        for q in range(near_at[b], near_at[b + 1]):
            u = near[q]
            if not placed[u] and lowest[u] < top:
                changed[moved], was[moved] = u, lowest[u]
                lowest[u], lifted[u] = top, counts[1]
                moved += 1
        if _fits(at, floor, first[left[0]], reach, capacity, fixed, state):
            w = 0
            for u in left:
                if u != b:
                    rest[w] = u
                    saved[depth, w] = lowest[u]
                    w += 1
            found = _place(rest, at, rank[b], depth + 1, fixed, bounds, state)
            if found != -1:
                return found
            for i in range(w):
                placed[rest[i]] = False
                lowest[rest[i]] = saved[depth, i]
        placed[b] = False
        for q in range(moved - 1, -1, -1):
            lowest[changed[q]] = was[q]
    table[slot] = key
    return -1
