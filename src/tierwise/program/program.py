"""A program: what runs on one role of device, without prices. Bodies of ops, executed in nested repeats."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from tierwise.core.num import Num
from tierwise.program.types import Op


@dataclass(frozen=True)
class Body:
    """Ops (and repeats of further bodies) executed one after the other, such as a layer.

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
class Place:
    """Where an op stands: the body it is in, the repeats around that, and how often it runs in all."""

    name: str
    path: tuple[str, ...]
    repeat: Num


@dataclass(frozen=True)
class Program:
    """What one role of device runs.

    Attributes:
        items: bodies and repeats, in order.
        role: which device: ``device``, a pipeline stage, an expert rank, ``host``. Equal devices share a program.
    """

    items: tuple[Body | Repeat, ...]
    role: str = "device"

    def walk(self) -> Iterator[tuple[Place, Op]]:
        """Every op once, with where it stands and how often it runs."""
        for item in self.items:
            yield from _walk(item, (), 1.0)

    def bodies(self) -> Iterator[tuple[Place, Body]]:
        """Every body that holds ops, once, in order of first execution."""
        for item in self.items:
            yield from _bodies(item, (), 1.0)

    @property
    def flops(self) -> Num:
        """Arithmetic of the whole program."""
        return sum((where.repeat * op.flops for where, op in self.walk()), 0.0)

    def bytes_of(self, role: str) -> Num:
        """Compulsory traffic of one operand role, bytes."""
        return sum((where.repeat * op.bytes_of(role) for where, op in self.walk()), 0.0)

    def scaled(self, factor: Num) -> Program:
        """The same program, ``factor`` times over."""
        return replace(self, items=(Repeat("times", (Body("once", self.items),), count=factor),))


def _walk(item: Op | Body | Repeat, path: tuple[str, ...], times: Num, name: str = "") -> Iterator[tuple[Place, Op]]:
    if isinstance(item, Op):
        yield Place(name, path, times), item
    elif isinstance(item, Body):
        for x in item.items:
            yield from _walk(x, path, times, item.name)
    else:
        for i, body in enumerate(item.bodies):
            n = item.pattern.count(i)
            if n:
                yield from _walk(body, (*path, item.name), times * (n * item.count))


def _bodies(item: Body | Repeat, path: tuple[str, ...], times: Num) -> Iterator[tuple[Place, Body]]:
    if isinstance(item, Body):
        if any(isinstance(x, Op) for x in item.items):
            yield Place(item.name, path, times), item
        for x in item.items:
            if not isinstance(x, Op):
                yield from _bodies(x, path, times)
    else:
        for i, body in enumerate(item.bodies):
            n = item.pattern.count(i)
            if n:
                yield from _bodies(body, (*path, item.name), times * (n * item.count))
