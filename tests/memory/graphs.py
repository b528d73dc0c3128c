"""Tensor graphs of known shapes, and an account of schedules that shares nothing with the planner."""

from __future__ import annotations

import itertools
import random

from tierwise.memory.spilling import Schedule
from tierwise.memory.tensors import OperatorGraph, Task


class Drawn:
    """A graph as it is drawn: ``t = op(bytes, reads...)``."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []
        self.sizes: list[int] = []

    def source(self, size: int) -> int:
        self.sizes.append(size)
        return len(self.sizes) - 1

    def op(self, size: int, *reads: int) -> int:
        t = self.source(size)
        self.tasks.append(Task(f"op{len(self.tasks)}", tuple(dict.fromkeys(reads)), (t,)))
        return t

    def done(self) -> OperatorGraph:
        return OperatorGraph(tuple(self.tasks), tuple(f"t{i}" for i in range(len(self.sizes))), tuple(self.sizes))


def transformer_block(hidden: int, tokens: int) -> OperatorGraph:
    d = Drawn()
    x, row = d.source(hidden * tokens), hidden * tokens
    for _ in range(2):
        n = d.op(row, x)
        q, k, v = (d.op(row, n) for _ in range(3))
        x = d.op(row, x, d.op(row, d.op(tokens * tokens * 4, q, k), v))
        n = d.op(row, x)
        gate, up = d.op(4 * row, n), d.op(4 * row, n)
        x = d.op(row, x, d.op(4 * row, gate, up))
    return d.done()


def u_net(size: int, levels: int) -> OperatorGraph:
    """Resolution halves and channels double: bytes halve at every level; each level's result is read again."""
    d = Drawn()
    x, kept = d.source(size // 8), []
    for level in range(levels):
        for _ in range(2):
            x = d.op(size >> level, x)
        kept.append(x)
        x = d.op(size >> (level + 2), x)
    for level in reversed(range(levels)):
        up = d.op(size >> level, x)
        joined = d.op(2 * (size >> level), up, kept[level])
        x = d.op(size >> level, d.op(size >> level, joined))
    return d.done()


def nas_cells(size: int, cells: int, seed: int = 0) -> OperatorGraph:
    """Cells as DARTS finds them: four nodes of two operators each, on nodes before them and the last two cells."""
    d, rng = Drawn(), random.Random(seed)
    two = last = d.op(size, d.source(size // 4))
    for _ in range(cells):
        a, b = d.op(size, two), d.op(size, last)
        nodes = [a, b]
        for _ in range(4):
            i, j = rng.sample(nodes, 2)
            nodes.append(d.op(size, d.op(size, i), d.op(size, d.op(size, j))))
        two, last = last, d.op(4 * size, *nodes[2:])
    d.op(10, last)
    return d.done()


def audited(g: OperatorGraph, capacity: int, s: Schedule) -> int:
    """Bytes moved beyond the compulsory ones, after checking every move: what is read is resident, what is brought in
    was copied out before or came from outside, nothing overlaps in the arena, results arrive outside.

    Works on the list of moves and the offsets alone.
    """
    inside: dict[int, tuple[int, int]] = {}
    outside = {t for t in range(len(g.size)) if not any(t in task.writes for task in g.tasks)}
    stays = {(t, int(b)): int(o) for t, b, o in zip(s.tensors, s.stays.lower, s.offsets, strict=True)}
    moved, ran = 0, set()

    def put(t: int, at: int) -> None:
        low = stays[t, at]
        assert t not in inside and low >= 0 and low + g.size[t] <= capacity
        assert all(low + g.size[t] <= a or b <= low or a == b or not g.size[t] for a, b in inside.values())
        inside[t] = (low, low + g.size[t])

    for at, m in enumerate(s.moments):
        task = g.tasks[m.task]
        assert m.task not in ran
        for t in m.stores:
            assert t in inside
            outside.add(t)
            moved += g.size[t]
        for t in m.drops:
            later = [i for i, o in enumerate(g.tasks) if t in o.reads and i not in ran]
            assert t in outside or not later
            del inside[t]
        if m.streamed:
            assert sum(g.size[t] for t in {*task.reads, *task.writes}) > capacity and not inside
            assert all(t in outside for t in task.reads)
            moved += sum(g.size[t] for t in (*task.reads, *task.writes))
            outside.update(task.writes)
        else:
            for t in m.loads:
                assert t in outside
                moved += g.size[t]
                put(t, at)
            for t in task.writes:
                put(t, at)
            assert all(t in inside for t in (*task.reads, *task.writes))
            assert sum(b - a for a, b in inside.values()) <= capacity
        ran.add(m.task)
        for t in m.after:
            assert t in inside
            outside.add(t)
            moved += g.size[t]
        for t in m.freed:
            later = [i for i, o in enumerate(g.tasks) if t in o.reads and i not in ran]
            assert t in outside or not later
            del inside[t]
    assert ran == set(range(len(g.tasks))) and not inside
    read = {t for task in g.tasks for t in task.reads}
    written = {t for task in g.tasks for t in task.writes}
    assert written - read <= outside
    return moved - sum(g.size[t] for t in (read - written) | (written - read))


def least(g: OperatorGraph, capacity: int) -> int:
    """Least traffic beyond the compulsory one by trying every move one at a time: run, load, store or drop.

    A shortest path over (ran, resident, outside), one tensor a move; no rule of the planner is used.
    """
    import heapq

    size, n = g.size, len(g.tasks)
    written = {t for task in g.tasks for t in task.writes}
    read = {t for task in g.tasks for t in task.reads}
    start = (frozenset(), frozenset(), frozenset(read - written))
    heap, best, tick = [(0, 0, start)], {start: 0}, itertools.count(1)
    while heap:
        cost, _, (ran, inside, outside) = heapq.heappop(heap)
        if best[ran, inside, outside] < cost:
            continue
        if len(ran) == n and written - read <= outside:
            return cost - sum(size[t] for t in (read - written) | (written - read))
        nexts = []
        used = sum(size[t] for t in inside)
        for t in inside:
            nexts.append((0, (ran, inside - {t}, outside)))
            if t not in outside:
                nexts.append((size[t], (ran, inside, outside | {t})))
        for t in outside - inside:
            if used + size[t] <= capacity:
                nexts.append((size[t], (ran, inside | {t}, outside)))
        for i, task in enumerate(g.tasks):
            ready = all(any(t in g.tasks[j].writes for j in ran) for t in task.reads if t in written)
            if i in ran or not ready:
                continue
            both = {*task.reads, *task.writes}
            if sum(size[t] for t in both) > capacity:
                if not inside and set(task.reads) <= outside:
                    moved = sum(size[t] for t in (*task.reads, *task.writes))
                    nexts.append((moved, (ran | {i}, inside, outside | set(task.writes))))
            elif set(task.reads) <= inside and used + sum(size[t] for t in task.writes) <= capacity:
                nexts.append((0, (ran | {i}, inside | set(task.writes), outside)))
        for more, state in nexts:
            if cost + more < best.get(state, 1 << 60):
                best[state] = cost + more
                heapq.heappush(heap, (cost + more, next(tick), state))
    raise AssertionError("no schedule")
