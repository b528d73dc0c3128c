"""Copies that a placement put in a program, in lanes of their own."""

from __future__ import annotations

from tierwise.program.edges import stretches
from tierwise.program.program import Program
from tierwise.program.types import Op
from tierwise.schedule._order_builder import OrderBuilder, dependencies
from tierwise.schedule.types import Buffer, Order


def has_copies(program: Program) -> bool:
    """Whether something in it lies on another node."""
    return any(op.kind == "copy" for _, op in program.walk())


def copied(program: Program, copies: int) -> Order:
    """Copies in the lane of their stream, all other ops on the device (or the node that computes them).

    Args:
        copies: of each buffer: a copy may run that many turns, less one, ahead of the op that reads it.
    """
    found = [op for _, op in program.walk()]
    streams = dict.fromkeys(_lane(op) for op in found)
    building = OrderBuilder(("device", *(s for s in streams if s != "device")))
    writers: dict[str, int] = {}
    base = 0
    for stretch in stretches(program):
        building.section(stretch.turns)
        for i, p in enumerate(stretch.ops):
            number = building.add(_lane(p.op), p.name, p.op)
            assert number == base + i
            for o in p.op.reads:
                if o.role == "copy" and o.name in writers:
                    name = f"{p.body}.{o.name}"
                    building.buffers.append(Buffer(name, writers.pop(o.name), number, copies))
            if p.op.kind == "copy":
                writers |= {o.name: number for o in p.op.writes if o.role == "copy"}
        base += len(stretch.ops)
    building.edges += dependencies(program)
    return building.order()


def _lane(op: Op) -> str:
    return "device" if op.stream in ("compute", "comm") else op.stream
