"""What a schedule is made of: demands of ops, the order that lanes issue them in, and the timeline that follows.

An *issue* is one execution of an op: op ``i`` of the program at turn ``k`` of the repeat around it. A *lane* works its
issues off one at a time, in the order given (the compute units, one direction of a link, a copy engine, the host, a
pipeline stage). Edges say which issue waits for which; lanes and edges are all that an order knows. It knows no prices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tierwise.core.num import Num


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
        group: ops whose errors go together (device family, op class, engine build), for intervals.
        interval: factors on the duration that 80 % of measurements lie between.
    """

    duration: Num
    draws: Mapping[str, Num] = field(default_factory=dict)
    bytes: Mapping[str, Num] = field(default_factory=dict)
    joules: Mapping[str, Num] = field(default_factory=dict)
    basis: str = "datasheet"
    group: str = ""
    interval: tuple[Num, Num] = (1.0, 1.0)


@dataclass(frozen=True)
class Edge:
    """Execution ``turn`` of op ``to`` waits for the end of execution ``turn - distance`` of op ``of``.

    Ops are numbers into :attr:`Order.ops`. A distance of 0 is inside a turn, of 1 from the turn before; executions
    before turn 0 are over from the start.
    """

    of: int
    to: int
    distance: int = 0


@dataclass(frozen=True)
class Issue:
    """Execution ``turn`` of op ``op`` (a number into :attr:`Order.ops`), in the lane it stands in."""

    op: int
    turn: int = 0


@dataclass(frozen=True)
class Buffer:
    """A tensor of which ``copies`` exist: written by ``writer``, free again after ``reader`` has run.

    ``distance``: turns between the write and the read it is for. An execution of the writer waits until a copy is free,
    so a buffer implies an edge from reader to writer.
    """

    name: str
    writer: int
    reader: int
    copies: int
    distance: int = 0


@dataclass(frozen=True)
class Order:
    """What each lane issues, and in which order: a prologue, one period executed ``turns`` times, an epilogue.

    Attributes:
        ops: names of the ops, for people and pictures.
        lanes: by name of the lane its issues of the prologue, of one period, and of the epilogue, in order. In
            execution ``r`` of the period, counted from 0, every turn in it is ``r * step`` later; turns of the epilogue
            count from where the last period ended (they too are shifted by ``turns * step``).
        edges: what waits for what.
        turns: executions of the period; may be an array, one element a configuration.
        step: turns that one period is long.
        buffers: copies of tensors in flight.
    """

    ops: tuple[str, ...]
    lanes: Mapping[str, tuple[tuple[Issue, ...], tuple[Issue, ...], tuple[Issue, ...]]]
    edges: tuple[Edge, ...] = ()
    turns: Num = 0.0
    step: int = 1
    buffers: tuple[Buffer, ...] = ()


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
        time: seconds from the first start to the last end.
        busy: seconds that each lane works.
        exposed: seconds of each lane in which no lane before it in ``order`` of the schedule works: what it adds to the
            time (they add up to the time less the ``idle`` time, in which no lane works).
        idle: seconds in which no lane works.
        drawn: seconds that each shared capacity is drawn on, at its full rate.
        joules: by component.
        bytes: by tier or direction of a link.
        exact: False where a repeat was extrapolated by more than its period allows; ``error`` bounds it then.
        events: of a scalar configuration, when asked for.
    """

    time: Num
    busy: Mapping[str, Num]
    exposed: Mapping[str, Num]
    idle: Num
    drawn: Mapping[str, Num]
    joules: Mapping[str, Num]
    bytes: Mapping[str, Num]
    exact: bool = True
    error: Num = 0.0
    events: tuple[Event, ...] = ()
