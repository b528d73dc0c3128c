"""Which op waits for which, from the names of what they read and write, and how long each tensor lives.

An op that reads a tensor waits for the last op before it that wrote that name. Activations are one stream: a name not
yet written in a body comes from the body executed before (the residual stream of layers). Everything else (KV caches,
states) belongs to the turn of the repeats that it stands in, unless :attr:`Repeat.carries` says how many turns later it
is read. A collective writes what it reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tierwise.core.errors import TierwiseError
from tierwise.core.num import Num
from tierwise.program.program import Body, Program, Repeat
from tierwise.program.types import Op, Operand


@dataclass(frozen=True)
class Placed:
    """An op in a stretch.

    Attributes:
        body: the body it stands in, numbered where one is executed more than once in a turn.
        path: the repeats around it that were written out, each with the turn (or the place in its pattern).
    """

    op: Op
    body: str
    path: tuple[tuple[Repeat, int], ...] = ()

    @property
    def name(self) -> str:
        return f"{self.body}.{self.op.name}"


@dataclass(frozen=True)
class Stretch:
    """Ops executed one after the other, ``turns`` times: a body, or one turn of a repeat with all its bodies.

    A repeat that runs once through a long pattern (the layers of a stack) is cut where the pattern repeats itself.
    """

    name: str
    ops: tuple[Placed, ...]
    turns: Num = 1.0
    repeat: Repeat | None = None


@dataclass(frozen=True)
class Dependency:
    """Op ``to`` reads what op ``of`` wrote, ``distance`` turns of their stretch before.

    Ops are numbered through all stretches. ``before``: what it wrote in its last turn, in a stretch before.
    """

    of: int
    to: int
    distance: int
    before: bool
    tensor: str


@dataclass(frozen=True)
class Life:
    """One value of a tensor: from the op that writes it to the last that reads it, ``distance`` turns later.

    Attributes:
        path: names of the repeats around it.
        read: the op itself where nobody reads it.
        later: it is read in a stretch after its own.
        bytes: size.
        role: of the operand.
    """

    tensor: str
    path: tuple[str, ...]
    write: int
    read: int
    distance: int
    later: bool
    bytes: Num
    role: str


def stretches(program: Program) -> tuple[Stretch, ...]:
    """The program as a flat row. Repeats inside a repeat are written out, which needs whole counts; a single turn of
    repeats (a whole program, once) is no repeat.

    Raises:
        TierwiseError: a repeat inside a repeat has an array or a fraction for its count.
    """
    return tuple(_stretches(program.items))


def edges(program: Program) -> tuple[Dependency, ...]:
    """All dependencies between ops, one a tensor, numbered through :func:`stretches`."""
    out: dict[Dependency, None] = {}
    written: dict[object, int] = {}  # the last op that wrote a tensor, in the stretches before
    base = 0
    for number, stretch in enumerate(stretches(program)):
        last: dict[object, int] = {}
        for i, p in enumerate(stretch.ops):
            for o in written_by(p.op):
                last[_identity(p, o, number, stretch)] = base + i
        seen: dict[object, int] = {}
        for i, p in enumerate(stretch.ops):
            for o in p.op.reads:
                key = _identity(p, o, number, stretch)
                found = [Dependency(seen[key], base + i, 0, False, o.name)] if key in seen else [
                    *_carried(o, stretch, last.get(key), base + i),
                    *([Dependency(written[key], base + i, 0, True, o.name)] if key in written else []),
                ]  # fmt: skip
                out.update(dict.fromkeys(found))
            for o in written_by(p.op):
                seen[_identity(p, o, number, stretch)] = base + i
        written.update(last)
        base += len(stretch.ops)
    return tuple(out)


def lives(program: Program) -> tuple[Life, ...]:
    """Every value that an op writes, and how long it is needed."""
    reads: dict[tuple[int, str], list[Dependency]] = {}
    for d in edges(program):
        reads.setdefault((d.of, d.tensor), []).append(d)
    out = []
    ops = [(s, p) for s in stretches(program) for p in s.ops]
    for i, (stretch, p) in enumerate(ops):
        inner = tuple(r.name for r, _ in p.path if r is not stretch.repeat)
        path = (stretch.repeat.name, *inner) if stretch.repeat else inner
        for o in written_by(p.op):
            last = max(reads.get((i, o.name), ()), key=lambda d: (d.before, d.distance, d.to), default=None)
            read, distance, later = (last.to, last.distance, last.before) if last else (i, 0, False)
            out.append(Life(o.name, path, i, read, distance, later, o.bytes, o.role))
    return tuple(out)


def written_by(op: Op) -> tuple[Operand, ...]:
    """What an op writes; a collective leaves its result where its input was."""
    if op.kind != "collective":
        return op.writes
    names = {o.name for o in op.reads}
    return (*op.reads, *(o for o in op.writes if o.name not in names))


def _identity(p: Placed, o: Operand, number: int, stretch: Stretch) -> object:
    if o.role == "act":
        return o.name
    inner = tuple((r.name, turn) for r, turn in p.path if o.name not in r.carries)
    carried = stretch.repeat is not None and o.name in stretch.repeat.carries
    return (o.name, inner) if carried else (o.name, inner, number)


def _carried(o: Operand, stretch: Stretch, of: int | None, to: int) -> Iterator[Dependency]:
    if of is None or stretch.repeat is None:
        return
    distance = stretch.repeat.carries.get(o.name, 1 if o.role == "act" else 0)
    if distance:
        yield Dependency(of, to, distance, False, o.name)


def _stretches(items: Sequence[Op | Body | Repeat], name: str = "") -> Iterator[Stretch]:
    ops: list[Placed] = []
    for item in items:
        if isinstance(item, Op):
            ops.append(Placed(item, name))
            continue
        if ops:
            yield Stretch(name, tuple(ops))
            ops = []
        if isinstance(item, Body):
            yield from _stretches(item.items, item.name)
        elif np.ndim(item.count) == 0 and item.count == 1 and not _holds_ops(item):
            yield from _stretches([item.bodies[i] for i in item.pattern], name)
        else:
            once = np.ndim(item.count) == 0 and item.count == 1
            for pattern, times in _cut(item.pattern) if once else [(item.pattern, item.count)]:
                yield Stretch(item.name, tuple(_turn(replace(item, pattern=pattern))), times, item)
    if ops:
        yield Stretch(name, tuple(ops))


def _cut(pattern: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], Num]]:
    """A pattern as shorter ones, each so many times: three layers of one kind and then 58 of another."""
    i = 0
    while i < len(pattern):
        size, times = 1, 1
        for u in range(1, (len(pattern) - i) // 2 + 1):
            n = 1
            while pattern[i + n * u : i + (n + 1) * u] == pattern[i : i + u]:
                n += 1
            if n > 1 and n * u > size * times:
                size, times = u, n
        yield pattern[i : i + size], float(times)
        i += size * times


def _holds_ops(repeat: Repeat) -> bool:
    return any(isinstance(x, Op) for body in repeat.bodies for x in body.items)


def _turn(repeat: Repeat) -> Iterator[Placed]:
    """All ops of one turn of a repeat, inner repeats written out."""
    for place, i in enumerate(repeat.pattern):
        body = repeat.bodies[i]
        # A place in the pattern is a turn of its own to what is not carried: the layers of a stack each have a state.
        name = body.name if repeat.pattern.count(i) == 1 else f"{body.name} {repeat.pattern[:place].count(i)}"
        yield from _written_out(body, ((repeat, place),) if len(repeat.pattern) > 1 else (), name)


def _written_out(body: Body, path: tuple[tuple[Repeat, int], ...], name: str) -> Iterator[Placed]:
    for item in body.items:
        if isinstance(item, Op):
            yield Placed(item, name, path)
        elif isinstance(item, Body):
            yield from _written_out(item, path, f"{name}.{item.name}")
        else:
            if np.ndim(item.count) != 0 or item.count != np.floor(item.count):
                raise TierwiseError(f"repeat {item.name!r} inside another: its count must be one whole number")
            for k in range(int(item.count)):
                for place, i in enumerate(item.pattern):
                    turn = k * len(item.pattern) + place
                    inner = f"{name}.{item.bodies[i].name} {turn}"
                    yield from _written_out(item.bodies[i], (*path, (item, turn)), inner)
