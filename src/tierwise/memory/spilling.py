"""Operator order and spills over a scratchpad for the least traffic to the memory outside, then addresses.

:func:`scheduled` finds an order of a graph's operators, which tensors leave the scratchpad before which operator, and
where each lies while it is resident (:mod:`tierwise.memory.packing`). Inputs are read once and results written once in
any schedule; what is moved beyond that is to be least (the objective of COSMA, arXiv:2311.18246). Two schedules that
people use stand beside it: the file's order with eviction of what is needed last (Belady), with addresses by first-fit
and without.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tierwise.core.errors import BadField
from tierwise.memory.packing import Buffers, Whole, pack
from tierwise.memory.spill_search import Found, Rules, bits, search
from tierwise.memory.tensors import OperatorGraph

TIGHTER = 0.98  # capacity of the next try over that of one whose schedule has no addresses
TRIES = 12
SEARCH, AGAIN, PACK = 0.7, 0.3, 0.3  # of the time left: for the first search, for each later one, for addresses


@dataclass(frozen=True)
class Moment:
    """What happens at one operator, in this order.

    Attributes:
        task: which runs. ``stores``: tensors copied out before it; ``drops``: that leave; ``loads``: that come in.
        after: results and last-used tensors copied out behind it. ``freed``: that leave behind it.
        streamed: it runs in tiles, its operands read from outside and its results written there.
    """

    task: int
    stores: tuple[int, ...]
    drops: tuple[int, ...]
    loads: tuple[int, ...]
    after: tuple[int, ...]
    freed: tuple[int, ...]
    streamed: bool


@dataclass(frozen=True)
class Schedule:
    """An order with spills and addresses.

    Attributes:
        moments: one a task. ``traffic``: bytes beyond the compulsory ones. ``peak``: most bytes resident at once.
        stays: a buffer for each stay of a tensor in the scratchpad, named after it; ``offsets`` of them, where placed.
        tensors: number of each stay's tensor.
    """

    moments: tuple[Moment, ...]
    traffic: int
    peak: int
    stays: Buffers
    tensors: tuple[int, ...]
    offsets: Whole | None = None


@dataclass(frozen=True)
class SpillPlan:
    """What was found.

    Attributes:
        best: the schedule of least traffic. ``bound``: traffic of any schedule at least; ``forced``: the part of it
            that operators too large for the capacity move in any.
        first_fit, belady: traffic of the file's order with eviction of what is needed last, with and without addresses.
        states: that the search tried. ``seconds``: in all.
    """

    best: Schedule
    bound: int
    forced: int
    first_fit: int
    belady: int
    states: int
    seconds: float

    @property
    def gap(self) -> float:
        """Traffic above the bound, over the traffic."""
        return 0.0 if self.best.traffic == 0 else 1.0 - self.bound / self.best.traffic


def scheduled(
    g: OperatorGraph, capacity: int, seconds: float = 60.0, told: Callable[[int, int, int], None] | None = None
) -> SpillPlan:
    """The schedule of least traffic found in the time.

    Args:
        told: called now and then with (parts done, parts, states tried).

    Raises:
        BadField: no capacity.
    """
    if capacity <= 0:
        raise BadField("capacity", "bytes", capacity, "at least 1")
    began = time.perf_counter()
    until = began + seconds
    rules = Rules(g, capacity)
    kept, plain = replayed(rules, belady(rules)), first_fit(rules)
    best, bound, states, room = plain, 0, 0, capacity
    least_room = max((w for w in g.working if w <= capacity), default=capacity)
    for attempt in range(TRIES):
        tight = rules if room == capacity else Rules(g, room)
        start = kept if room == capacity else replayed(tight, belady(tight))
        spare, now = start.traffic - tight.forced, time.perf_counter()
        # The first search gets most of the time; those that only make room for addresses are short.
        ends = now + (SEARCH if attempt == 0 else AGAIN) * max(until - now, 1.0)
        found = search(tight, spare, ends, told) if spare else Found([], 0, 0, 0)
        tried = [replayed(tight, found.moves)] * bool(found.moves) + [start]
        states += found.states
        if attempt == 0:
            bound = min(tried[0].traffic, found.bound + rules.forced)
        if tried[0].traffic >= best.traffic:
            break
        for one in tried:
            if one.traffic < best.traffic:
                placed = pack(one.stays, capacity, max(PACK * (until - time.perf_counter()), 1.0))
                best = best if placed.offsets is None else replace(one, offsets=placed.offsets)
        if best.traffic <= tried[0].traffic or room == least_room or time.perf_counter() > until:
            break
        room = max(int(room * TIGHTER), least_room)
    return SpillPlan(best, bound, rules.forced, plain.traffic, kept.traffic, states, time.perf_counter() - began)


def replayed(r: Rules, moves: Sequence[tuple[int, int]]) -> Schedule:
    """The schedule of (task, tensors that leave for it), with its traffic counted move by move."""
    g, resident, copied = r.g, 0, r.outside
    left = [list(users) for users in g.readers]
    begun: dict[int, int] = {}
    moments, stays = [], _Stays(g)
    traffic, peak = 0, 0
    for at, (task, out) in enumerate(moves):
        reads, writes, streamed = r.reads[task], r.writes[task], bool(r.streamed >> task & 1)
        stores = (out | (reads if streamed else 0)) & resident & ~copied
        drops = out & resident
        for t in bits(drops):
            stays.add(t, begun.pop(t), at)
        resident, copied = resident & ~drops, copied | stores
        loads = 0 if streamed else reads & ~resident
        traffic += r.bytes(stores) + r.bytes(loads) + (r.bytes(reads | writes) if streamed else 0)
        copied |= writes if streamed else 0
        new = 0 if streamed else (reads | writes) & ~resident
        begun.update(dict.fromkeys(bits(new), at))
        resident |= new
        peak = max(peak, r.bytes(resident))
        for t in bits(reads):
            left[t].remove(task)
        freed = sum(1 << t for t in bits((reads | writes) & resident) if all(r.streamed >> u & 1 for u in left[t]))
        after = sum(1 << t for t in bits(freed & ~copied) if left[t] or not g.readers[t])
        for t in bits(freed):
            stays.add(t, begun.pop(t), at + 1)
        resident, copied, traffic = resident & ~freed, copied | after, traffic + r.bytes(after)
        sets = [tuple(bits(m)) for m in (stores, drops, loads, after, freed)]
        moments.append(Moment(task, sets[0], sets[1], sets[2], sets[3], sets[4], streamed))
    buffers, tensors = stays.done()
    return Schedule(tuple(moments), traffic - g.compulsory, peak, buffers, tensors)


class _Stays:
    """Stays of tensors in the scratchpad, as they end."""

    def __init__(self, g: OperatorGraph) -> None:
        self.g, self.rows = g, list[tuple[int, int, int]]()

    def add(self, tensor: int, begin: int, end: int) -> None:
        self.rows.append((begin, tensor, end))

    def done(self) -> tuple[Buffers, tuple[int, ...]]:
        self.rows.sort()
        seen: dict[int, int] = {}
        ids = []
        for _, t, _ in self.rows:
            seen[t] = seen.get(t, 0) + 1
            ids.append(self.g.names[t] + (f" #{seen[t]}" if seen[t] > 1 else ""))
        begin, tensors, end = (np.asarray(x, dtype=np.int64) for x in zip(*self.rows, strict=True)) if self.rows else (
            np.zeros(0, dtype=np.int64),) * 3  # fmt: skip
        size = np.asarray([self.g.size[t] for t in tensors], dtype=np.int64)
        return Buffers(tuple(ids), begin, end, size), tuple(int(t) for t in tensors)


def belady(r: Rules) -> list[tuple[int, int]]:
    """The file's order; what is needed last leaves first."""
    state, moves = r.start, []
    for task in range(len(r.g.tasks)):
        out = state[1] if r.streamed >> task & 1 else 0
        if not r.streamed >> task & 1:
            operands = r.reads[task] | r.writes[task]
            while r.bytes((state[1] & ~out) | operands) > r.capacity:
                out |= 1 << max(bits(state[1] & ~operands & ~out), key=lambda t: (_next(r, t, task), r.size[t]))
        moves.append((task, out))
        state, _ = r.step(state, task, out)
    return moves


def _next(r: Rules, tensor: int, task: int) -> int:
    """The next task of the file's order that needs a tensor resident."""
    later = r.users[tensor] >> task
    return task + (later & -later).bit_length()


def first_fit(r: Rules) -> Schedule:
    """The file's order, each tensor in the lowest gap that holds it; what is needed last leaves until there is one."""
    state, moves = r.start, []
    lies: dict[int, int] = {}
    put: dict[tuple[int, int], int] = {}
    for task in range(len(r.g.tasks)):
        operands = r.reads[task] | r.writes[task]
        out = state[1] if r.streamed >> task & 1 else 0
        if not out and not r.streamed >> task & 1:
            places = _places(r, lies, task, operands & ~state[1])
            while places is None:
                choice = state[1] & ~out & ~operands
                # Where nothing else is left, the operands lie badly: they leave too, and come in again.
                gone = state[1] & ~out
                if choice:
                    gone = 1 << max(bits(choice), key=lambda t: (_next(r, t, task), r.size[t]))
                out |= gone
                for t in bits(gone):
                    lies.pop(t)
                places = _places(r, lies, task, operands & ~(state[1] & ~out))
            lies.update(places)
            put.update({(t, task): at for t, at in places.items()})
        moves.append((task, out))
        state, _ = r.step(state, task, out)
        lies = {t: at for t, at in lies.items() if state[1] >> t & 1}
    one = replayed(r, moves)
    offsets = [put[t, int(begin)] for t, begin in zip(one.tensors, one.stays.lower, strict=True)]
    return replace(one, offsets=np.asarray(offsets, dtype=np.int64))


def _places(r: Rules, lies: dict[int, int], task: int, new: int) -> dict[int, int] | None:
    """Offsets of tensors in the lowest gaps beside those that lie there; None where one has none."""
    taken = sorted((at, at + r.size[t]) for t, at in lies.items())
    out: dict[int, int] = {}
    for t in bits(new):
        at = 0
        for begin, end in taken:
            if begin - at >= r.size[t]:
                break
            at = max(at, end)
        if at + r.size[t] > r.capacity:
            return None
        out[t] = at
        taken = sorted([*taken, (at, at + r.size[t])])
    return out
