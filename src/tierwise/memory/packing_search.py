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

SOLVED, UNKNOWN, IMPOSSIBLE = 1, 0, -1
FIRST = 2000  # nodes of the first try of each order
MORE = 2  # and by how much more of the next
TABLE = 1 << 21  # states remembered
PROBES = 8


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
    inside = _moments(first, last, len(points) - 1)
    fixed = (size.astype(np.int64), first.astype(np.int64), last.astype(np.int64), *_rows(over), *_rows(inside))
    table, words = np.zeros(TABLE, dtype=np.uint64), np.random.default_rng(0).integers(1, 2**63, n).astype(np.uint64)
    load = inside.T.astype(np.int64) @ size
    began, nodes, limit, rate = time.perf_counter(), 0, FIRST, 1e4
    while True:
        for way, rank in enumerate(_ranks(upper - lower, size, np.where(inside, load[None], 0).max(axis=1, initial=0))):
            left = until - time.perf_counter()
            if left <= 0:
                return "unknown", None, nodes
            state = _State(n, inside.shape[1])
            allowed = min(limit, max(int(rate * left), 100))
            start = time.perf_counter()
            status = _place(
                np.arange(n),
                np.int64(0),
                np.int64(-1),
                rank,
                *fixed,
                np.int64(capacity),
                np.int64(allowed),
                *state.arrays,
                table,
                words,
                np.int64(way),
                0,
            )
            used = int(state.counts[0])
            nodes += used
            rate = max(used / max(time.perf_counter() - start, 1e-6), 100.0)
            if told is not None:
                told(nodes, time.perf_counter() - began)
            if status == SOLVED:
                return "packed", state.offsets, nodes
            if status == IMPOSSIBLE:
                return "impossible", None, nodes
        limit *= MORE


class _State:
    """What changes while a search runs."""

    def __init__(self, n: int, moments: int) -> None:
        self.offsets = np.zeros(n, dtype=np.int64)
        self.counts = np.zeros(2, dtype=np.int64)  # nodes; checks
        lowest, placed = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.bool_)
        tops, seen = np.zeros(moments, dtype=np.int64), np.zeros(moments, dtype=np.int64)
        self.arrays = (lowest, placed, self.offsets, self.counts, tops, seen, np.zeros((2 * n + 2, n), dtype=np.int64))


def _moments(first: Whole, last: Whole, count: int) -> NDArray[np.bool_]:
    """Which buffers live at which moment, (n, moments); moments whose buffers all live at a neighbour are left out."""
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
    return np.asarray(inside[:, keep])


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


@numba.njit(cache=True)
def _place(  # type: ignore[no-untyped-def]
    left,
    floor,
    before,
    rank,
    size,
    first,
    last,
    near_at,
    near,
    live_at,
    live,
    capacity,
    limit,
    lowest,
    placed,
    offsets,
    counts,
    tops,
    seen,
    saved,
    table,
    words,
    way,
    depth,
):
    """Place the buffers ``left`` of one component, none below ``floor``."""
    k = len(left)
    if k == 0:
        return 1
    counts[0] += 1
    if counts[0] > limit:
        return 0
    order = left[np.argsort(first[left])]
    reach, parts = last[order[0]], 1
    for i in range(1, k):
        if first[order[i]] >= reach:
            parts += 1
        reach = max(reach, last[order[i]])
    if parts > 1:
        begin, reach = 0, last[order[0]]
        for i in range(1, k + 1):
            if i == k or first[order[i]] >= reach:
                found = _place(
                    order[begin:i].copy(),
                    floor,
                    before,
                    rank,
                    size,
                    first,
                    last,
                    near_at,
                    near,
                    live_at,
                    live,
                    capacity,
                    limit,
                    lowest,
                    placed,
                    offsets,
                    counts,
                    tops,
                    seen,
                    saved,
                    table,
                    words,
                    way,
                    depth + 1,
                )
                if found != 1:
                    return found
                begin = i
                if i < k:
                    reach = last[order[i]]
            else:
                reach = max(reach, last[order[i]])
        return 1

    # What else fits below ends here: a buffer to be placed higher would come later.
    below = np.int64(1) << 60
    ties = False
    for i in range(k):
        u = left[i]
        below = min(below, max(lowest[u], floor) + size[u])
        ties = ties or lowest[u] == floor

    slot, key = np.uint64(0), np.uint64(floor) * np.uint64(0x9E3779B97F4A7C15)
    if ties:
        key += np.uint64((before + 2) * 64 + way) * np.uint64(0xD6E8FEB86659FD93)
    for i in range(k):
        u = left[i]
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
            return -1
        if table[slot] == 0:
            break
        slot = (slot + np.uint64(1)) & mask

    count = 0
    candidates, keys = np.empty(k, np.int64), np.empty(k, np.int64)
    for i in range(k):
        u = left[i]
        m = lowest[u]
        if floor <= m < below and m + size[u] <= capacity and not (m == floor and rank[u] < before):
            candidates[count], keys[count] = u, rank[u]
            count += 1
    chosen = candidates[:count][np.argsort(keys[:count])]
    chosen = chosen[np.argsort(lowest[chosen], kind="mergesort")]
    changed, was, rest = np.empty(k, np.int64), np.empty(k, np.int64), np.empty(k - 1, np.int64)
    for b in chosen:
        at = lowest[b]
        top = at + size[b]
        placed[b], offsets[b] = True, at
        moved = 0
        for q in range(near_at[b], near_at[b + 1]):
            u = near[q]
            if not placed[u] and lowest[u] < top:
                changed[moved], was[moved] = u, lowest[u]
                lowest[u] = top
                moved += 1
        w = 0
        for i in range(k):
            if left[i] != b:
                rest[w] = left[i]
                w += 1
        release = np.maximum(lowest[rest[:w]], at)
        counts[1] += 1
        fits = True
        for i in np.argsort(release):
            u = rest[i]
            for q in range(live_at[u], live_at[u + 1]):
                s = live[q]
                t = tops[s] if seen[s] == counts[1] else np.int64(0)
                t = max(t, release[i]) + size[u]
                if t > capacity:
                    fits = False
                    break
                tops[s], seen[s] = t, counts[1]
            if not fits:
                break
        if fits:
            for i in range(w):
                saved[depth, i] = lowest[rest[i]]
            found = _place(
                rest[:w].copy(),
                at,
                rank[b],
                rank,
                size,
                first,
                last,
                near_at,
                near,
                live_at,
                live,
                capacity,
                limit,
                lowest,
                placed,
                offsets,
                counts,
                tops,
                seen,
                saved,
                table,
                words,
                way,
                depth + 1,
            )
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
