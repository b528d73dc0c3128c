"""The search of :mod:`tierwise.memory.spilling`: which operator runs next, and what leaves to make room for it.

A state is what has run, which tensors are resident, which have a copy outside, and whose first load is free. Loads,
evictions and stores wait until an operator needs them: doing them earlier gains nothing. So a move is an operator and a
least set of tensors that leave for it. An operator that all others stand before or behind cuts the graph: whatever the
order was, the same has run there, and only residency differs. The graph is solved from cut to cut (divide and conquer
that loses nothing), each part best first with the loads still owed as the bound. Where a part has too many states, a
beam goes on, and the bound is the sum of what each part costs at least.
"""

from __future__ import annotations

import copy
import heapq
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from tierwise.memory.tensors import OperatorGraph

# (ran, resident, copied outside, first load free), as sets of bits.
State: TypeAlias = tuple[int, int, int, int]
Step: TypeAlias = tuple[int, int, "State"]  # (operator, what left for it, the state before)
Told: TypeAlias = Callable[[int, int, int], None]

SUBSETS = 64  # least sets of tensors to evict that are tried at one operator
BEAM = 300  # states kept for each number of operators that ran
SHARE = 0.6  # of the time left that is searched in; the rest is for bounds
WINDOWS = (16, 32, 64)  # tasks that a bound takes together


def bits(mask: int) -> Iterator[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def mask_of(numbers: tuple[int, ...]) -> int:
    return sum(1 << t for t in set(numbers))


@dataclass
class Found:
    """Operators in order with what left for each; bytes beyond what is forced; and what there is at least."""

    moves: list[tuple[int, int]]
    cost: int
    bound: int
    states: int


class Rules:
    """What can happen next in a graph over a capacity, and what it costs."""

    def __init__(self, g: OperatorGraph, capacity: int) -> None:
        self.g, self.capacity, self.size, n = g, capacity, g.size, len(g.tasks)
        self.reads, self.writes = ([mask_of(x) for x in side] for side in
                                   ((t.reads for t in g.tasks), (t.writes for t in g.tasks)))  # fmt: skip
        self.streamed = sum(1 << i for i in range(n) if g.working[i] > capacity)
        self.before = [sum(1 << w for w in {g.writer[t] for t in task.reads if t in g.writer}) for task in g.tasks]
        self.behind = [0] * n
        for i, m in enumerate(self.before):
            for j in bits(m):
                self.behind[j] |= 1 << i
        plain = [sum(1 << i for i in r) for r in g.readers]
        self.users = [m & ~self.streamed for m in plain]
        inside = {t: self.streamed >> w & 1 for t, w in g.writer.items()}
        self.free_store = sum(1 << t for t, m in enumerate(plain) if m & self.streamed or inside.get(t) or not m)
        first = [t for t in range(len(g.size)) if self.users[t] and (t not in g.writer or inside[t])]
        self.first = sum(1 << t for t in first)
        self.outside = mask_of(g.inputs)
        self.forced = self._forced(plain, inside)
        self.lossy, self.gratis = False, 0
        self._sums: dict[int, int] = {}

    def _forced(self, plain: list[int], inside: dict[int, int]) -> int:
        """Bytes beyond the compulsory ones that operators too large for the capacity move."""
        total = 0
        for t, readers in enumerate(plain):
            loads = (readers & self.streamed).bit_count() + (self.first >> t & 1)
            stores = self.free_store >> t & 1 if t in inside else 0
            known = (not readers and t in inside) + (t in self.g.inputs)
            total += self.size[t] * (loads + stores - known)
        return total

    def bytes(self, mask: int) -> int:
        found = self._sums.get(mask)
        if found is None:
            found = self._sums[mask] = sum(self.size[t] for t in bits(mask))
        return found

    def owed(self, s: State) -> int:
        """Loads that are still to come, at least."""
        return self.bytes(s[2] & ~s[1] & ~s[3] & ~self.gratis)

    @property
    def start(self) -> State:
        live = sum(1 << t for t in bits(self.outside) if self.users[t])
        return (0, 0, live, live & self.first)

    def within(self, tasks: int) -> tuple[Rules, State]:
        """(rules, start) of some of the tasks, by which they cost no more than in any schedule of all.

        What comes from other tasks lies outside and is loaded for nothing, but for the second time where nobody else
        reads it; what others need later need not be kept.
        """
        r, inside = copy.copy(self), [0] * len(self.size)
        made = sum(1 << t for i in bits(tasks) for t in self.g.tasks[i].writes)
        used = sum(1 << t for t, users in enumerate(self.users) if users & tasks)
        for t in bits(used):
            inside[t] = self.users[t] & tasks
        r.users, r.before = inside, [m & tasks for m in self.before]
        r.free_store = self.free_store | ~used | ~made
        own = sum(1 << t for t in bits(used & ~made) if not any(not tasks >> i & 1 for i in self.g.readers[t]))
        r.gratis = used & ~made & ~own
        ran = ((1 << len(self.before)) - 1) & ~tasks
        return r, (ran, 0, used & ~made, own)

    def step(self, s: State, task: int, out: int) -> tuple[State, int]:
        """(the state after, cost) of running a task once ``out`` has left."""
        ran, resident, copied, free = s
        cost = self.bytes(out & ~copied & ~self.free_store)
        copied |= out
        resident &= ~out
        ran |= 1 << task
        touched = self.reads[task] | self.writes[task]
        if self.streamed >> task & 1:
            copied |= self.writes[task]
            free |= self.writes[task] & self.first
        else:
            loads = self.reads[task] & ~resident
            cost += self.bytes(loads & ~free & ~self.gratis)
            free &= ~loads
            resident |= touched
        for t in bits(touched):
            if not self.users[t] & ~ran:
                keep = ~(1 << t)
                resident, copied, free = resident & keep, copied & keep, free & keep
        return (ran, resident, copied, free), cost

    def moves(self, s: State, among: int) -> Iterator[tuple[int, int]]:
        """(task, what leaves for it) of all that is worth trying."""
        ready = [i for i in bits(among & ~s[0]) if not self.before[i] & ~s[0]]
        for i in ready:
            if self._harmless(s, i):
                yield i, 0
                return
        for i in ready:
            if self.streamed >> i & 1:
                yield i, s[1]
                continue
            over = self.bytes(s[1] | self.reads[i] | self.writes[i]) - self.capacity
            if over <= 0:
                yield i, 0
                continue
            for out in self._least(s[1] & ~self.reads[i], over):
                yield i, out

    def _harmless(self, s: State, i: int) -> bool:
        """Running it now puts one result, no larger, in the place of one operand that nothing else needs."""
        ran, resident, copied, _ = s
        reads, writes = self.reads[i], self.writes[i]
        if self.streamed >> i & 1 or reads & ~resident or writes.bit_count() > 1:
            return False
        if self.bytes(resident | writes) > self.capacity:
            return False
        dying = [t for t in bits(reads) if not self.users[t] & ~ran & ~(1 << i)]
        left = sum(self.size[t] for t in bits(writes) if self.users[t])
        if not left:
            return True
        ends = [t for t in dying if not (copied | self.free_store) >> t & 1]
        return any(self.size[t] >= left for t in ends)

    def _least(self, choice: int, over: int) -> Iterator[int]:
        """Sets of tensors that together hold ``over`` bytes or more, and without any one of them do not."""
        items = sorted(bits(choice), key=lambda t: -self.size[t])
        rest = [0] * (len(items) + 1)
        for k in range(len(items) - 1, -1, -1):
            rest[k] = rest[k + 1] + self.size[items[k]]
        count = 0
        stack = [(0, 0, over)]
        while stack:
            k, out, need = stack.pop()
            if need <= 0:
                # The last one in is the smallest: without it the set is too small, so it is a least one.
                yield out
                count += 1
                if count >= SUBSETS:
                    self.lossy = True
                    return
                continue
            if rest[k] < need:
                continue
            stack.append((k + 1, out, need))
            if self.size[items[k]]:
                stack.append((k + 1, out | 1 << items[k], need - self.size[items[k]]))


def parts(r: Rules) -> list[int]:
    """Sets of tasks between cuts, in order."""
    n = len(r.g.tasks)
    above, below = [0] * n, [0] * n
    for i in range(n):
        for j in bits(r.before[i]):
            above[i] |= above[j] | 1 << j
    for i in range(n - 1, -1, -1):
        for j in bits(r.behind[i]):
            below[i] |= below[j] | 1 << j
    every, done, out = (1 << n) - 1, 0, []
    for i in range(n):
        if above[i] | below[i] | 1 << i == every:
            upto = above[i] | 1 << i
            out.append(upto & ~done)
            done = upto
    if done != every:
        out.append(every & ~done)
    return [p for p in out if p]


def search(r: Rules, incumbent: int, until: float, told: Told | None = None) -> Found:
    """The best order with evictions found; no moves where none beats the incumbent.

    Args:
        incumbent: cost of a schedule that is known; a state that cannot beat it is left out.
    """
    back: dict[State, Step] = {}
    front, cuts = {r.start: 0}, parts(r)
    floor, exact, states, done = 0, True, 0, 0
    for number, part in enumerate(cuts):
        if told is not None:
            told(number, len(cuts), states)
        done |= part
        share = SHARE * part.bit_count() / sum(p.bit_count() for p in cuts[number:])
        limit = time.perf_counter() + share * max(until - time.perf_counter(), 0.5)
        ends, low, tried, whole = _best_first(r, front, part, done, incumbent, limit, back)
        states += tried
        if not whole:
            ends = _beam(r, front, part, incumbent, until, back)
        if not (exact and whole):
            beside = floor + _at_least(r, part, until)
            low = max(low, beside) if exact else beside
        floor = low
        exact = exact and whole
        if not ends:
            return Found([], incumbent, incumbent if exact else min(floor, incumbent), states)
        front = _undominated(r, ends)
    last, cost = min(front.items(), key=lambda x: x[1])
    moves = []
    while last in back:
        task, out, last = back[last]
        moves.append((task, out))
    return Found(moves[::-1], cost, cost if exact else min(floor, cost), states)


def _best_first(r: Rules, front: dict[State, int], part: int, done: int, incumbent: int, limit: float,
                back: dict[State, Step], first: bool = False) -> tuple[dict[State, int], int, int, bool]:  # fmt: skip
    """(states at the end of a part with their costs, the least that any has with its debts, states tried, whether all
    that matter were found)."""
    best, ends = dict(front), dict[State, int]()
    heap = [(g + r.owed(s), -s[0].bit_count(), i, s) for i, (s, g) in enumerate(front.items())]
    heapq.heapify(heap)
    low, tried, most, whole = incumbent, 0, incumbent, True
    closed: set[State] = set()
    while heap:
        f, _, _, s = heapq.heappop(heap)
        if s in closed:
            continue
        if f > most:
            break
        closed.add(s)
        tried += 1
        if tried & 255 == 0 and time.perf_counter() > limit:
            return ends, min(low, f), tried, False
        g = best[s]
        if s[0] == done:
            low = min(low, f)
            if first:
                return ends, low, tried, whole
            if not ends:
                # From here any other state at the cut is a store and a load of each tensor away.
                most = min(most, f + 2 * r.bytes(s[1] | s[2]))
            ends[s] = g
            continue
        for task, out in r.moves(s, part):
            after, cost = r.step(s, task, out)
            total = g + cost
            if total + r.owed(after) < min(incumbent, most + 1) and total < best.get(after, total + 1):
                best[after] = total
                back[after] = (task, out, s)
                heapq.heappush(heap, (total + r.owed(after), -after[0].bit_count(), len(best) + tried, after))
        if r.lossy:
            low, whole, r.lossy = min(low, f), False, False
    return ends, low, tried, whole


def _beam(
    r: Rules, front: dict[State, int], part: int, incumbent: int, until: float, back: dict[State, Step]
) -> dict[State, int]:
    """The best states at the end of a part of those kept on the way; few are once the time is up."""
    layer = dict(sorted(front.items(), key=lambda x: x[1] + r.owed(x[0]))[:BEAM])
    for _ in range(part.bit_count()):
        after: dict[State, int] = {}
        for s, g in layer.items():
            for task, out in r.moves(s, part):
                new, cost = r.step(s, task, out)
                total = g + cost
                if total + r.owed(new) < incumbent and total < after.get(new, total + 1):
                    after[new] = total
                    back[new] = (task, out, s)
        width = BEAM if time.perf_counter() < until else BEAM // 10
        kept = heapq.nsmallest(width, after.items(), key=lambda x: (x[1] + r.owed(x[0]), r.bytes(x[0][1])))
        layer = dict(kept)
    return layer


def _at_least(r: Rules, part: int, until: float) -> int:
    """What the tasks of a part cost at least, from what runs of them cost by themselves."""
    tasks, best = list(bits(part)), 0
    for width in sorted({min(w, len(tasks)) for w in WINDOWS}):
        total = 0
        for k in range(0, len(tasks), width):
            some, start = r.within(mask_of(tuple(tasks[k : k + width])))
            limit = time.perf_counter() + max(until - time.perf_counter(), 1.0) * width / (6.0 * len(tasks))
            total += _best_first(some, {start: 0}, ~start[0] & ((1 << len(r.before)) - 1), start[0] | part, 1 << 62,
                                 limit, {}, first=True)[1]  # fmt: skip
        best = max(best, total)
    return best


def _undominated(r: Rules, ends: dict[State, int]) -> dict[State, int]:
    """The states that are not reached as cheaply from a better one."""
    kept: list[tuple[State, int]] = []
    for s, g in sorted(ends.items(), key=lambda x: x[1]):
        if not any(h + r.bytes(s[1] & ~o[1] & ~(o[3] & ~s[3])) + r.bytes((s[2] & ~o[2]) & ~r.free_store) <= g
                   and not s[3] & ~o[3] for o, h in kept[:200]):  # fmt: skip
            kept.append((s, g))
    return dict(kept)
