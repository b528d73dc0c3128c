"""A slow, plain player of orders: one configuration, one event after the other. What the fast one must agree with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tierwise.schedule.types import Demand, Event, Order, OrderEdge


@dataclass
class Played:
    time: float = 0.0
    busy: dict[str, float] = field(default_factory=dict)
    exposed: dict[str, float] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)


def issues(order: Order, at: int = 0) -> dict[str, list[tuple[int, int, int]]]:
    """(section, op, turn from the very start) of each lane, written out; of element ``at`` of array counts."""
    out: dict[str, list[tuple[int, int, int]]] = {lane: [] for lane in order.lanes}
    start = 0
    for s, section in enumerate(order.sections):
        count = section.turns if isinstance(section.turns, float | int) else section.turns[at]
        for _ in range(round(float(count))):
            for lane, row in section.lanes.items():
                out[lane] += [(s, i.op, i.turn + start) for i in row]
            start += section.step
    return out


def rates(draws: list[dict[str, float]]) -> list[float]:
    """How fast ops that run at once advance, 1 being alone.

    The most oversubscribed capacity first: whoever draws on it gets an equal factor. Then, with what those leave, the
    next, until nothing is oversubscribed.
    """
    rate: list[float | None] = [None] * len(draws)
    while True:
        worst, slowest = None, 1.0
        for name in {n for d in draws for n in d}:
            held = sum(r * d.get(name, 0.0) for r, d in zip(rate, draws, strict=True) if r is not None)
            asked = sum(d.get(name, 0.0) for r, d in zip(rate, draws, strict=True) if r is None)
            if asked > 0 and (1.0 - held) / asked < slowest:
                worst, slowest = name, (1.0 - held) / asked
        if worst is None:
            return [1.0 if r is None else r for r in rate]
        for i, d in enumerate(draws):
            if rate[i] is None and d.get(worst, 0.0) > 0:
                rate[i] = max(slowest, 0.0)


def play(order: Order, demands: Sequence[Demand], at: int = 0) -> Played:
    """Every execution, in order of time."""
    queue = issues(order, at)
    exists = {(op, turn) for row in queue.values() for _, op, turn in row}
    last: dict[tuple[int, int], int] = {}  # the newest turn of an op in the sections before one
    for s in range(len(order.sections)):
        for row in queue.values():
            for section, op, turn in row:
                if section < s:
                    last[s, op] = max(turn, last.get((s, op), -1))
    out = Played(busy=dict.fromkeys(order.lanes, 0.0), exposed=dict.fromkeys(order.lanes, 0.0))
    done: set[tuple[int, int]] = set()
    running: dict[str, tuple[int, int, float, float]] = {}  # lane: op, turn, what is left, when it began
    time = 0.0

    into: dict[int, list[OrderEdge]] = {}
    for e in order.waits:
        into.setdefault(e.to, []).append(e)

    def ready(section: int, op: int, turn: int) -> bool:
        for e in into.get(op, ()):
            key = (e.of, last.get((section, e.of), -1) if e.before else turn - e.distance)
            if key in exists and key not in done:
                return False
        return True

    while True:
        for lane in order.lanes:
            if lane not in running and queue[lane] and ready(*queue[lane][0]):
                _, op, turn = queue[lane].pop(0)
                running[lane] = (op, turn, _at(demands[op].duration, at), time)
        if not running:
            break
        now = list(running)
        speed = rates([{k: _at(v, at) for k, v in demands[running[x][0]].draws.items()} for x in now])
        step = min(running[x][2] / v for x, v in zip(now, speed, strict=True))
        time += step
        first = next(x for x in order.lanes if x in running)
        out.exposed[first] += step
        for lane, v in zip(now, speed, strict=True):
            op, turn, left, began = running[lane]
            out.busy[lane] += step
            if left / v - step <= 1e-12 * max(left, step):
                del running[lane]
                done.add((op, turn))
                out.events.append(Event(lane, op, turn, began, time))
            else:
                running[lane] = (op, turn, left - step * v, began)
    assert not any(queue.values()), "something waits for what never comes"
    out.time = time
    return out


def _at(x: object, at: int) -> float:
    return float(x) if isinstance(x, float | int) else float(x[at])  # type: ignore[index]
