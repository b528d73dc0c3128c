"""Sequences of many lengths on groups of devices that divide a sequence: of one degree, or each of its own.

A degree that holds the longest sequence makes the short ones pay for an exchange they do not need. Groups of one degree
take packs of sequences (best fit, arXiv:2404.10830) in turns; groups of several degrees stand beside each other, and
what comes into each is chosen so that all are done at the same time (FlexSP, arXiv:2412.01523). What is chosen goes by
three prices of each degree (of tokens, and of pairs that attend); what it takes is priced as any micro-batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from tierwise.core.errors import TierwiseError
from tierwise.machines.types import System
from tierwise.models.types import Model
from tierwise.training.layout import Layout
from tierwise.training.recipe import TrainingFramework
from tierwise.training.step import TrainStep, train_step

Vector = NDArray[np.float64]
# Seconds of a group whatever it holds, of a token, of a pair of tokens that attend to each other.
Prices = tuple[float, float, float]
# Tokens of a device that are tried.
_STEP, _MOST = 128.0, 131072.0
# Times that are tried at once; of a device's mean tokens, the part that short sequences are bundled to.
_TIMES, _ITEMS = 16, 16.0


@dataclass(frozen=True)
class Group:
    """Devices that divide the same sequences: how many, and the tokens of each sequence."""

    degree: float
    lengths: tuple[float, ...]


@dataclass(frozen=True)
class Dealt:
    """A step on groups.

    Attributes:
        micro_batches: the groups that work at a time.
        seconds: what each micro-batch takes on its slowest group. ``once``: what comes once a step.
    """

    micro_batches: tuple[tuple[Group, ...], ...]
    seconds: tuple[float, ...]
    once: float

    @property
    def time(self) -> float:
        return sum(self.seconds) + self.once


@dataclass(frozen=True)
class Grouped:
    """What groups of a layout can hold (tokens), and what they take (seconds).

    Attributes:
        model, system, how, flash: as of :func:`~tierwise.training.step.train_step`.
        base: the layout but for its degrees ``cp`` and ``dp``, its batch and its lengths.
        rooms, rates: :meth:`room` and :meth:`prices` of the degrees that were asked for before.
    """

    model: Model
    system: System
    base: Layout
    how: TrainingFramework
    flash: bool = True
    rooms: dict[float, float] = field(default_factory=dict, compare=False, repr=False)
    rates: dict[float, Prices] = field(default_factory=dict, compare=False, repr=False)

    @property
    def devices(self) -> float:
        """Of all groups together, each of as many as tensor parallelism has."""
        return float(self.system.count / self.base.tp)

    def steps(self, degrees: Vector, tokens: Vector, attended: Vector) -> TrainStep:
        """One micro-batch a group, each on as many groups as there is room for."""
        beside = self.devices / degrees
        x = replace(self.base, cp=degrees, dp=beside, micro_batch=1.0, global_batch=beside)
        return train_step(self.model, self.system, replace(x, seq=tokens, attended=attended), self.how, self.flash)

    def room(self, degree: float) -> float:
        """Tokens that a group can hold; 0 where none fits."""
        if degree not in self.rooms:
            self.rooms[degree] = self._room(degree)
        return self.rooms[degree]

    def prices(self, degree: float) -> Prices:
        """Seconds of a group that come whatever it holds, of a token, and of a pair of tokens that attend: the line
        through half of its room and all of it, and without and with whole sequences."""
        if degree not in self.rates:
            self.rates[degree] = self._prices(degree)
        return self.rates[degree]

    def _room(self, degree: float) -> float:
        tokens = np.arange(_STEP, _MOST + 1.0, _STEP) * degree
        found = self.steps(np.full_like(tokens, degree), tokens, np.ones_like(tokens)).memory.fits
        return float(np.max(np.where(np.broadcast_to(found, tokens.shape), tokens, 0.0)))

    def _prices(self, degree: float) -> Prices:
        most = max(self.room(degree), 2.0 * _STEP * degree)
        tokens = np.array([most / 2.0, most, most])
        few = np.array([0.0, 0.0, 1.0])
        half, whole, paired = np.asarray(self.steps(np.full(3, degree), tokens, few).stages.passes.slowest)
        slope = max((whole - half) / (most / 2.0), 0.0)
        return float(whole - slope * most), float(slope), float((paired - whole) / most**2)


def same(on: Grouped, batches: Sequence[Sequence[float]], degree: float) -> list[Dealt]:
    """Steps on groups of one degree: packs that fill it, in as few turns as there can be.

    Raises:
        TierwiseError: a sequence that is longer than a group can hold.
    """
    beside, room = int(on.devices / degree), on.room(degree)
    chosen = []
    for lengths in batches:
        packs = packed(lengths, room)
        turns = [[x for p in packs[i : i + beside] for x in p] for i in range(0, len(packs), beside)]
        chosen.append([_even(turn, degree, beside, room, on.prices(degree)) for turn in turns])
    return _priced(on, chosen)


def mixed(on: Grouped, batches: Sequence[Sequence[float]], degrees: Sequence[float]) -> list[Dealt]:
    """Steps on groups whose degrees follow their sequences.

    Sequences are sorted and cut into micro-batches of as many tokens each, the least number that fits and more as long
    as that is faster by the prices that choose groups.

    Raises:
        TierwiseError: a sequence that is longer than the largest group can hold.
    """
    usable = sorted(d for d in degrees if d <= on.devices and on.room(d) > 0)
    chosen = []
    for lengths in batches:
        long = np.sort(np.asarray(lengths, dtype=float))[::-1]
        if not usable or long[0] > on.room(usable[-1]):
            room = on.room(usable[-1]) if usable else 0.0
            raise TierwiseError(f"a sequence of {long[0]:.0f} tokens is longer than the {room:.0f} that a group holds")
        least = int(np.ceil(long.sum() / max(on.room(d) * on.devices / d for d in usable)))
        best: tuple[float, list[list[Group]]] = (np.inf, [])
        for count in range(least, len(long) + 1):
            turns = [_beside(on, part, usable) for part in cut(long, count)]
            total = sum(seconds for seconds, _ in turns)
            if total >= best[0] and best[1]:
                break
            if total < best[0]:
                best = total, [groups for _, groups in turns]
        chosen.append(best[1])
    return _priced(on, chosen)


def packed(lengths: Sequence[float], room: float) -> list[list[float]]:
    """Sequences in as few packs as best fit finds: the longest first, each where it leaves least.

    Raises:
        TierwiseError: a sequence that is longer than a pack.
    """
    packs: list[list[float]] = []
    left = np.zeros(len(lengths))
    for x in sorted(lengths, reverse=True):
        if x > room:
            raise TierwiseError(f"a sequence of {x:.0f} tokens is longer than the {room:.0f} that a group holds")
        fits = np.where(left[: len(packs)] >= x, left[: len(packs)], np.inf)
        at = int(np.argmin(fits)) if packs else 0
        if not packs or not np.isfinite(fits[at]):
            packs.append([])
            at = len(packs) - 1
            left[at] = room
        packs[at].append(x)
        left[at] -= x
    return packs


def _even(lengths: list[float], degree: float, beside: int, room: float, price: Prices) -> list[Group]:
    """Sequences over equal groups so that all are done at about the same time: the longest first, each where least is
    done; as best fit packs them where that finds no room."""
    base, token, pair = price
    done, left = np.full(beside, base), np.full(beside, room)
    own: list[list[float]] = [[] for _ in range(beside)]
    for x in sorted(lengths, reverse=True):
        to = int(np.argmin(np.where(left >= x, done, np.inf)))
        if left[to] < x:
            own = packed(lengths, room)
            break
        own[to].append(x)
        done[to] += (token + pair * x) * x
        left[to] -= x
    return [Group(degree, tuple(each)) for each in own]


def cut(long: Vector, count: int) -> list[Vector]:
    """Sorted sequences in so many parts of about as many tokens."""
    ends = np.cumsum(long) - long / 2.0
    part = np.minimum((ends / long.sum() * count).astype(int), count - 1)
    return [long[part == i] for i in range(count) if np.any(part == i)]


def _beside(on: Grouped, long: Vector, degrees: Sequence[float]) -> tuple[float, list[Group]]:
    """The groups of a micro-batch that are done first, and when they are (never, where nothing has room).

    A time is tried by packing into it (MULTIFIT, doi:10.1137/0207001): a sequence, the longest first, goes to an open
    group that is done with it in time, of the smallest degree and then the fullest; else the smallest group that is
    opens. Many times are tried at once, and the shortest found is narrowed down.
    """
    size, rooms = np.asarray(degrees), np.array([on.room(d) for d in degrees])
    base, token, pair = np.array([on.prices(d) for d in degrees]).T
    alone = np.where(rooms >= long[0], base + (token + pair * long[0]) * long[0], np.inf)
    each = (token + pair * long[:, None]) * long[:, None] * size
    least = max(float(alone.min()), float(each.min(axis=1).sum() / on.devices))
    tried = least * np.geomspace(1.0, 4.0, _TIMES)
    items = _together(long, float(long.sum()) / on.devices / _ITEMS)
    best: tuple[float, list[Group]] = (np.inf, [])
    for _ in range(2):
        found = _packed_into(tried, items, size, (base, token, pair), rooms, on.devices)
        if found is None:
            break
        at, group, kinds = found
        own: list[list[float]] = [[] for _ in kinds]
        for g, item in zip(group, items, strict=True):
            own[g] += item
        best = float(tried[at]), [Group(float(size[k]), tuple(x)) for k, x in zip(kinds, own, strict=True)]
        if at == 0:
            break
        tried = np.linspace(tried[at - 1], tried[at], _TIMES + 1)[1:]
    return best


def _together(long: Vector, most: float) -> list[list[float]]:
    """Sorted sequences, short ones in bundles of so many tokens at most, which go to one group."""
    out: list[list[float]] = []
    room = 0.0
    for x in long:
        if x > room:
            out.append([])
            room = most
        out[-1].append(float(x))
        room -= x
    return out


def _packed_into(
    times: Vector, items: list[list[float]], size: Vector, prices: tuple[Vector, Vector, Vector], rooms: Vector,
    devices: float,
) -> tuple[int, NDArray[np.int64], NDArray[np.int64]] | None:
    """Bundles of sequences in groups that are done in time.

    Returns:
        (the first of the times for which devices suffice, the group of each bundle, the degree of each group as a
        place in ``size``), or None.
    """
    base, token, pair = prices
    rows, most = np.arange(len(times)), int(devices / size.min())
    kind = np.zeros((len(times), most), dtype=np.int64)
    done, left = np.full(kind.shape, np.inf), np.zeros(kind.shape)
    opened, free = np.zeros(len(times), dtype=np.int64), np.full(len(times), devices)
    into = np.zeros((len(items), len(times)), dtype=np.int64)
    alive = np.ones(len(times), dtype=bool)
    for i, item in enumerate(items):
        x, pairs = sum(item), sum(one * one for one in item)
        own = token * x + pair * pairs
        fits = (left >= x) & (done + own[kind] <= times[:, None])
        # Of the smallest degree, and of those the one that is busy longest.
        key = np.where(fits, kind - done / (2.0 * times[:, None]), np.inf)
        to = np.argmin(key, axis=1)
        new = ~np.isfinite(key[rows, to])
        small = (base + own <= times[:, None]) & (rooms >= x)
        least = np.argmax(small, axis=1)
        alive &= ~new | (small[rows, least] & (size[least] <= free))
        make = new & alive
        to = np.where(new, np.minimum(opened, most - 1), to)
        kind[rows[make], to[make]] = least[make]
        done[rows[make], to[make]] = base[least[make]]
        left[rows[make], to[make]] = rooms[least[make]]
        free = free - np.where(make, size[least], 0.0)
        opened = opened + make
        done[rows[alive], to[alive]] += own[kind[rows, to]][alive]
        left[rows[alive], to[alive]] -= x
        into[i] = to
    if not alive.any():
        return None
    at = int(np.argmax(alive))
    return at, into[:, at], kind[at, : opened[at]]


def _priced(on: Grouped, chosen: Sequence[Sequence[Sequence[Group]]]) -> list[Dealt]:
    """Steps of groups at the price of their micro-batches."""
    flat = [g for batch in chosen for turn in batch for g in turn]
    tokens = np.array([max(sum(g.lengths), 2.0 * g.degree) for g in flat])
    pairs = np.array([sum(x * x for x in g.lengths) for g in flat])
    step = on.steps(np.array([g.degree for g in flat]), tokens, pairs / tokens**2)
    slowest = np.broadcast_to(np.asarray(step.stages.passes.slowest), tokens.shape)
    rest = np.broadcast_to(np.asarray(step.time), tokens.shape) - slowest
    out, at = [], 0
    for batch in chosen:
        seconds, once = [], 0.0
        for turn in batch:
            mine = slice(at, at + len(turn))
            seconds.append(float(slowest[mine].max()))
            once, at = float(rest[mine].max()), at + len(turn)
        out.append(Dealt(tuple(tuple(turn) for turn in batch), tuple(seconds), once))
    return out
