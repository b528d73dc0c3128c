"""A program: what runs on one role of device, without prices. Bodies of ops, executed in nested repeats."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from tierwise.core.num import Num
from tierwise.program.types import Op, Segment


@dataclass(frozen=True)
class Body:
    """Ops (and bodies and repeats of further ops) executed one after the other, such as a layer.

    Attributes:
        name: of the layer kind, or of the blocks around the layers (``input``, ``output``).
    """

    name: str
    items: tuple[Op | Body | Repeat, ...]


@dataclass(frozen=True)
class Repeat:
    """Bodies executed in a pattern, ``count`` times over: layers of a stack, steps of a request, micro-batches.

    Attributes:
        name: of what is repeated: ``layers``, ``decode``, ``micro-batch``.
        bodies: the distinct ones.
        pattern: indexes into ``bodies`` in the order of one turn (a hybrid model interleaves its layer kinds).
        count: turns; may be an array.
        varies: iteration dims that grow by turn: (value at turn 0, step), such as the context of a decode step.
        carries: tensors that a turn hands to a later one, and how many turns later it is read (the residual stream
            of layers, the KV cache of steps).
    """

    name: str
    bodies: tuple[Body, ...]
    pattern: tuple[int, ...] = (0,)
    count: Num = 1.0
    varies: Mapping[str, tuple[Num, Num]] = field(default_factory=dict)
    carries: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Program:
    """What one role of device runs.

    Attributes:
        items: bodies and repeats, in order.
        role: which device: ``device``, a pipeline stage, an expert rank, ``host``. Equal devices share a program.
    """

    items: tuple[Body | Repeat, ...]
    role: str = "device"

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        """Every body's own ops with how often they run in all, in the order they stand in."""
        return tuple(s for item in self.items for s in _segments(item, (), 1.0))

    @cached_property
    def order(self) -> tuple[int, ...]:
        """Indexes into :attr:`segments` as they are executed; a repeat whose turns are all equal is told once."""
        return _order(self.items, 0)[0]

    def walk(self) -> Iterator[tuple[Segment, Op]]:
        """Every op once, with the segment that says how often it runs."""
        for segment in self.segments:
            for op in segment.ops:
                yield segment, op

    @property
    def flops(self) -> Num:
        """Arithmetic of the whole program."""
        return sum((s.repeat * op.flops for s, op in self.walk()), 0.0)

    def bytes_of(self, role: str) -> Num:
        """Compulsory traffic of one operand role, bytes."""
        return sum((s.repeat * op.bytes_of(role) for s, op in self.walk()), 0.0)

    def scaled(self, factor: Num) -> Program:
        """The same program, ``factor`` times over."""
        return Program((Repeat("times", (Body("", self.items),), count=factor),), self.role)


def each_op(program: Program, change: Callable[[Op, str], Iterable[Op | Body | Repeat]]) -> Program:
    """The program with what ``change`` makes of every op and its body's name in that op's place."""

    def body(b: Body) -> Body:
        items = (change(x, b.name) if isinstance(x, Op) else (item(x),) for x in b.items)
        return replace(b, items=tuple(new for some in items for new in some))

    def item(x: Body | Repeat) -> Body | Repeat:
        return body(x) if isinstance(x, Body) else replace(x, bodies=tuple(map(body, x.bodies)))

    return replace(program, items=tuple(map(item, program.items)))


def _segments(item: Body | Repeat, path: tuple[str, ...], times: Num) -> Iterator[Segment]:
    if isinstance(item, Repeat):
        for i, body in enumerate(item.bodies):
            n = item.pattern.count(i)
            if n:
                yield from _segments(body, (*path, item.name), times * (n * item.count))
        return
    ops = tuple(x for x in item.items if isinstance(x, Op))
    if ops:
        yield Segment(item.name, times, ops, path)
    for x in item.items:
        if not isinstance(x, Op):
            yield from _segments(x, path, times)


def _order(items: Sequence[Op | Body | Repeat], first: int) -> tuple[tuple[int, ...], int]:
    """(segments in order of execution, number of the next segment) of items whose segments count from ``first``."""
    out: list[int] = []
    for item in items:
        if isinstance(item, Op):
            continue
        if isinstance(item, Body):
            if any(isinstance(x, Op) for x in item.items):
                out.append(first)
                first += 1
            inner, first = _order(item.items, first)
            out += inner
            continue
        turns: dict[int, tuple[int, ...]] = {}
        for i, body in enumerate(item.bodies):
            if i in item.pattern:
                turns[i], first = _order((body,), first)
        for i in item.pattern:
            out += turns[i]
    return tuple(out), first
