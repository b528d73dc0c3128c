"""Playing an order with its demands: a timeline for every configuration at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tierwise.core.errors import TierwiseError
from tierwise.core.num import Num, is_zero, maximum, num, where
from tierwise.schedule.compiled import compiled, executions, lanes_of
from tierwise.schedule.fluid import Flow, flow
from tierwise.schedule.maxplus import EQUAL, finish
from tierwise.schedule.types import Demand, Event, Order, Timeline

Array = NDArray[np.float64]
Whole = NDArray[np.int64]

# Bytes of one turn's rows: a part of a last-level cache, in which a sweep runs fastest (any size gives the same times).
_CACHE = 1 << 22


def play(order: Order, demands: Sequence[Demand], events: bool = False, exposed: bool = True) -> Timeline:
    """When an order is done.

    Args:
        demands: one for each op of the order; durations, draws, bytes and joules, and the turns of the order, may be
            arrays that broadcast (one element a configuration).
        events: also every execution, of a scalar configuration; then no repeat is cut short.
        exposed: also the exposed time by lane. It is free for up to two lanes; for more, every event is played.

    Returns:
        The timeline, exact to rounding: lanes that cannot oversubscribe any capacity by max-plus arithmetic, all others
        event by event. Times are infinite where an op never ends.

    Raises:
        BadOrder: something waits for what never comes.
        TierwiseError: a draw above 1, turns that are not whole, or events of arrays.
    """
    shape = _shape(order, demands)
    if events and shape:
        raise TierwiseError("events are those of one configuration, these are " + " x ".join(map(str, shape)))
    counts = executions(order)
    if len(order.lanes) == 1 and not events:
        time, busy, apart, kept = _in_line(order, demands, counts)
    else:
        flat = _Flat(shape)
        shared = sorted({k for d in demands for k, v in d.draws.items() if not is_zero(v)})
        contended = flat.all(_contended(order, demands, shared)) | events
        played = _played(order, demands, flat, shared, contended | (exposed and len(order.lanes) > 2), events)
        time, kept = flat.back(played.time), played.events
        busy, apart = ({x: flat.back(v[i]) for i, x in enumerate(order.lanes)} for v in (played.busy, played.exposed))
    out = Timeline(
        time=time,
        busy=busy,
        exposed=apart if exposed else {},
        drawn=_sums(counts, [{k: v * d.duration for k, v in d.draws.items()} for d in demands]),
        joules=_sums(counts, [d.joules for d in demands]),
        bytes=_sums(counts, [d.bytes for d in demands]),
        events=kept,
    )
    _checked(out)
    return out


def _in_line(
    order: Order, demands: Sequence[Demand], counts: Sequence[Num]
) -> tuple[Num, dict[str, Num], dict[str, Num], tuple[Event, ...]]:
    """One lane: nothing ever waits, so times add up."""
    compiled(order)  # refuses what cannot be played
    time: Num = 0.0
    for n, d in zip(counts, demands, strict=True):
        with np.errstate(invalid="ignore"):  # never run, and never over
            time = time + where(np.equal(n, 0.0), 0.0, n * d.duration)
    return time, {order.lanes[0]: time}, {order.lanes[0]: time}, ()


class _Flat:
    """Configurations of any shape as one axis."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape, self.n = shape, int(np.prod(shape))

    def all(self, x: object) -> NDArray[np.bool_]:
        return np.broadcast_to(np.asarray(x, dtype=bool), self.shape).reshape(-1)

    def rows(self, values: Sequence[Num], pick: Whole) -> Array:
        """(values, picked configurations)."""
        out = np.empty((len(values), len(pick)))
        for i, x in enumerate(values):
            out[i] = x if np.ndim(x) == 0 else np.broadcast_to(x, self.shape).reshape(-1)[pick]
        return out

    def back(self, x: Array) -> Num:
        return x.reshape(self.shape) if self.shape else float(x[0])


def _shape(order: Order, demands: Sequence[Demand]) -> tuple[int, ...]:
    if len(demands) != len(order.ops):
        raise TierwiseError(f"an order of {len(order.ops)} ops, and {len(demands)} demands")
    for name, d in zip(order.ops, demands, strict=True):
        if np.any(np.asarray(d.duration) < 0) or np.any(np.isnan(d.duration)):
            raise TierwiseError(f"{name}: a duration is no number of seconds")
        for k, v in d.draws.items():
            if np.any(np.asarray(v) > 1.0 + EQUAL) or np.any(np.asarray(v) < 0.0):
                raise TierwiseError(f"{name}: draws {float(np.max(v)):g} of {k}; a share lies between 0 and 1")
    for s in order.sections:
        if np.any(np.asarray(s.turns) != np.floor(s.turns)) or np.any(np.asarray(s.turns) < 0):
            raise TierwiseError("turns of a section are whole numbers")
    values = [x for d in demands for x in (d.duration, *d.draws.values())] + [s.turns for s in order.sections]
    return np.broadcast_shapes(*(np.shape(x) for x in values))


def _contended(order: Order, demands: Sequence[Demand], shared: Sequence[str]) -> object:
    """Where ops of different lanes could ask for more of a capacity than there is."""
    lane_of = lanes_of(order)
    out: object = False
    for name in shared:
        most: Num = 0.0
        for lane in range(len(order.lanes)):
            own = [num(d.draws.get(name, 0.0)) for d, x in zip(demands, lane_of, strict=True) if x == lane]
            most = most + maximum(0.0, *own)
        out = np.asarray(out) | (np.asarray(most) > 1.0 + EQUAL)
    return out


def _played(
    order: Order,
    demands: Sequence[Demand],
    flat: _Flat,
    shared: Sequence[str],
    flowing: NDArray[np.bool_],
    events: bool,
) -> Flow:
    """All configurations, in chunks of one kind."""
    ready, lanes, counts = compiled(order), len(order.lanes), executions(order)
    lane_of = np.asarray(lanes_of(order))
    in_lane = [np.flatnonzero(lane_of == x) for x in range(lanes)]
    out = Flow(np.zeros(flat.n), np.zeros((lanes, flat.n)), np.zeros((lanes, flat.n)))
    kept = out.events
    size = max(1, _CACHE // (8 * max((t.size for t in ready.turns), default=1)))
    for flows in (False, True):
        chosen = np.flatnonzero(flowing == flows)
        for i in range(0, len(chosen), size):
            pick = chosen[i : i + size]
            times = flat.rows(counts, pick)
            duration = np.where(times > 0, flat.rows([d.duration for d in demands], pick), 0.0)
            never = np.isinf(duration).any(axis=0)
            duration[:, never] = 0.0
            turns = [x.astype(np.int64) for x in flat.rows([s.turns for s in order.sections], pick)]
            if flows:
                draws = np.zeros((len(demands), len(shared), len(pick)))
                for k, name in enumerate(shared):
                    draws[:, k] = flat.rows([d.draws.get(name, 0.0) for d in demands], pick)
                one = flow(order, duration, draws, turns, events)
                kept = one.events
            else:
                time = finish(ready, duration, turns)
                busy = np.stack([(times[ops] * duration[ops]).sum(axis=0) for ops in in_lane])
                one = Flow(time, busy, _exposed(busy, time))
            for whole, part in ((out.time, one.time), (out.busy, one.busy), (out.exposed, one.exposed)):
                whole[..., pick] = np.where(never, np.inf, part)
    return Flow(out.time, out.busy, out.exposed, kept)


def _exposed(busy: Array, time: Array) -> Array:
    """Of up to two lanes: some lane works at every moment, so what the first does not cover, the second does."""
    if len(busy) > 2:
        return np.zeros_like(busy)
    return np.stack([busy[0], np.maximum(time - busy[0], 0.0)][: len(busy)])


def _sums(counts: Sequence[Num], parts: Sequence[Mapping[str, Num]]) -> dict[str, Num]:
    """Over all executions, by name."""
    out: dict[str, Num] = {}
    for n, part in zip(counts, parts, strict=True):
        for name, x in part.items():
            out[name] = out.get(name, 0.0) + n * x
    return out


def _checked(out: Timeline) -> None:
    """Nothing is used more than all the time."""
    for what, used in (*out.busy.items(), *out.drawn.items()):
        time = np.asarray(out.time)
        if np.any(np.isfinite(time) & (np.asarray(used) > time * (1.0 + 1e-9))):
            raise AssertionError(f"{what} is used for longer than there is time")
