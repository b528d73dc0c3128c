"""What a schedule is made of: demands of ops, the order that lanes issue them in, and the timeline that follows.

An *issue* is one execution of an op: op ``i`` of the order, at turn ``k``. A *lane* works its issues off one at a time,
in the order given (the compute units, one direction of a link, a copy engine, the host, a pipeline stage). Edges say
which issue waits for which; lanes and edges are all that an order knows. It knows no prices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tierwise.core.num import Num
from tierwise.program.types import Op


@dataclass(frozen=True)
class Demand:
    """What one execution of an op asks of a machine.

    Attributes:
        duration: seconds when nothing else runs.
        draws: share (0 to 1) of each shared capacity that it uses meanwhile (``"sm"``, ``"hbm"``, ``"link.out"``).
            Where the draws of ops that run at once add up to more than 1, those that draw on it slow in proportion.
        bytes: moved, by tier or direction of a link.
        joules: by component (an engine, a tier, a link).
        basis: what the price rests on: ``measured``, ``calibrated``, ``transferred`` or ``datasheet``.
    """

    duration: Num
    draws: Mapping[str, Num] = field(default_factory=dict)
    bytes: Mapping[str, Num] = field(default_factory=dict)
    joules: Mapping[str, Num] = field(default_factory=dict)
    basis: str = "datasheet"


@dataclass(frozen=True)
class OrderEdge:
    """Execution ``turn`` of op ``to`` waits for the end of execution ``turn - distance`` of op ``of``.

    Ops are numbers into :attr:`Order.ops`. A distance of 0 is inside a turn, of 1 from the turn before. An execution
    that is issued nowhere (such as those before turn 0) is over from the start.

    Attributes:
        before: wait for the last execution of ``of`` in the sections before that of ``to`` instead, whichever turn
            it has (what a stack of layers reads from the one before it).
    """

    of: int
    to: int
    distance: int = 0
    before: bool = False


@dataclass(frozen=True)
class Issue:
    """Execution ``turn`` of op ``op`` (a number into :attr:`Order.ops`), in the lane it stands in."""

    op: int
    turn: int = 0


@dataclass(frozen=True)
class Buffer:
    """A tensor that is written by ``writer`` and free again after ``reader`` has run.

    Attributes:
        copies: how many there are. An execution of the writer waits until one is free, so a buffer implies an edge from
            reader to writer, ``copies - distance`` turns apart. None: as many as the order happens to keep in flight,
            and nothing waits (activations of a pipeline).
        distance: turns between the write and the read it is for.
    """

    name: str
    writer: int
    reader: int
    copies: int | None
    distance: int = 0


@dataclass(frozen=True)
class Section:
    """What each lane issues in one turn of a repeat, in order, and how often.

    Attributes:
        lanes: issues by name of the lane; a lane that is not there has none. Turns of issues count from where what was
            executed before ended: each executed turn of a section moves the count on by its ``step``.
        turns: executions, a whole number; may be an array, one element a configuration.
        step: how far one execution moves the count of turns (0 for a prologue or an epilogue).
    """

    lanes: Mapping[str, tuple[Issue, ...]]
    turns: Num = 1.0
    step: int = 0


@dataclass(frozen=True)
class Order:
    """What each lane issues, and in which order: sections one after the other (a prologue, periods, an epilogue).

    Lanes do not wait for each other between sections; only edges wait. An op stands in one lane only, and its turns
    follow each other without gaps. A dependency lies in the same turn of a section or before it.

    Attributes:
        ops: names of the ops, for people and pictures.
        lanes: names of the lanes; exposed time counts what the lanes named before do not cover.
        sections: one after the other.
        edges: what waits for what.
        buffers: copies of tensors in flight.
        work: what to price for each of ``ops``: an op of the program or a copy that the schedule made; None where the
            schedule stands for more than one op (a whole stage).
    """

    ops: tuple[str, ...]
    lanes: tuple[str, ...]
    sections: tuple[Section, ...]
    edges: tuple[OrderEdge, ...] = ()
    buffers: tuple[Buffer, ...] = ()
    work: tuple[Op | None, ...] = ()

    @property
    def waits(self) -> tuple[OrderEdge, ...]:
        """All edges: those given, and those from the reader of a buffer back to its writer."""
        back = tuple(OrderEdge(b.reader, b.writer, b.copies - b.distance) for b in self.buffers if b.copies is not None)
        return self.edges + back


@dataclass(frozen=True)
class Event:
    """One execution on the timeline of a scalar configuration, seconds."""

    lane: str
    op: int
    turn: int
    start: float
    end: float


@dataclass(frozen=True)
class Timeline:
    """When an order is done, for every configuration at once.

    Attributes:
        time: seconds from the first start to the last end. Some lane works at every moment of it: what waits starts
            the moment the last thing it waits for ends.
        busy: seconds that each lane works.
        exposed: seconds of each lane in which no lane before it in :attr:`Order.lanes` works: what it adds to the time
            (they add up to it). Empty when not asked for.
        drawn: seconds that each shared capacity is drawn on, at its full rate.
        joules: by component, over all executions.
        bytes: by tier or direction of a link, over all executions.
        error: largest relative error of the time; 0 where it is exact (to rounding).
        events: of a scalar configuration, when asked for.
    """

    time: Num
    busy: Mapping[str, Num]
    exposed: Mapping[str, Num]
    drawn: Mapping[str, Num]
    joules: Mapping[str, Num]
    bytes: Mapping[str, Num]
    error: Num = 0.0
    events: tuple[Event, ...] = ()
