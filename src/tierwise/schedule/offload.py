"""Tensors that live in a slower tier: copied in, worked on, copied out, all three at once for different layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tierwise.program.edges import stretches
from tierwise.program.program import Program
from tierwise.program.types import Operand
from tierwise.schedule._order_builder import OrderBuilder, copy, dependencies
from tierwise.schedule._placed import copied, has_copies
from tierwise.schedule.types import Buffer, Order, OrderEdge

# What it orders beside the device's work are copies, of what a placement puts elsewhere.
COPIES = True


def order(
    program: Program,
    inward: Sequence[str] = ("kv",),
    outward: Sequence[str] = ("kv",),
    buffers: int = 2,
    tier: str = "host",
) -> Order:
    """One copy in and one copy out a turn of every repeat (such as a layer), each direction in a lane of its own.

    Args:
        inward: roles of operands that are copied in before they are read.
        outward: roles of operands that are copied out after they are written.
        buffers: copies of each turn's tensors on the device; 2 is double buffering, 1 none.
        tier: the slower one.
    """
    if has_copies(program):
        return copied(program, buffers)
    building = OrderBuilder(("device", "in", "out"))
    moved: list[tuple[str, _Moved, _Moved]] = []
    for stretch in stretches(program):
        building.section(stretch.turns)
        into, out = _Moved(), _Moved()
        for p in stretch.ops:
            number = building.add("device", p.name, p.op)
            if stretch.repeat is not None:
                into.note(number, [o for o in p.op.reads if o.role in inward])
                out.note(number, [o for o in p.op.writes if o.role in outward])
        moved.append((stretch.name, into, out))
    # Copies are numbered after all ops, so that dependencies keep their numbers.
    building.edges += dependencies(program)
    for section, (name, into, out) in enumerate(moved):
        fetched = copy(f"{name}.in", into.operands, tier, True)
        kept = copy(f"{name}.out", out.operands, tier, False)
        if fetched is not None:
            number = building.add("in", fetched.name, fetched, section)
            building.edges.append(OrderEdge(number, into.users[0]))
            building.buffers.append(Buffer(fetched.name, number, into.users[-1], buffers))
        if kept is not None:
            number = building.add("out", kept.name, kept, section)
            building.edges.append(OrderEdge(out.users[-1], number))
            building.buffers.append(Buffer(kept.name, out.users[0], number, buffers))
    return building.order()


@dataclass
class _Moved:
    """What one direction moves, and the ops that use it."""

    users: list[int] = field(default_factory=list)
    operands: list[Operand] = field(default_factory=list)

    def note(self, number: int, found: Sequence[Operand]) -> None:
        if found:
            self.users.append(number)
            self.operands += found
