"""Weights that lie in a slower tier, copied in some layers ahead of the one that runs."""

from __future__ import annotations

from collections.abc import Sequence

from tierwise.program.edges import stretches
from tierwise.program.program import Program
from tierwise.program.types import Op, Operand
from tierwise.schedule._order_builder import OrderBuilder, copy, dependencies
from tierwise.schedule._placed import copied, has_copies
from tierwise.schedule.types import Buffer, Order, OrderEdge

# What it orders beside the device's work are copies, of what a placement puts elsewhere.
COPIES = True


def order(program: Program, ahead: int = 1, roles: Sequence[str] = ("weight",), tier: str = "host") -> Order:
    """One copy a turn of every repeat (such as a layer), in a lane of its own.

    Args:
        ahead: how many turns ahead copies may run; there are ``ahead + 1`` buffers, so 0 copies a layer's weights
            only when those of the one before are used up.
        roles: of the operands that lie in the slower tier, in a program that says nothing of where things lie. What
            stands outside of repeats stays where it is then.
        tier: the slower one.
    """
    if has_copies(program):
        return copied(program, ahead + 1)
    building = OrderBuilder(("device", "copy"))
    copies: list[tuple[list[int], Op | None]] = []
    for stretch in stretches(program):
        building.section(stretch.turns)
        users: list[int] = []
        moved: list[Operand] = []
        for p in stretch.ops:
            number = building.add("device", p.name, p.op)
            found = [o for o in p.op.reads if o.role in roles]
            if stretch.repeat is not None and found:
                users.append(number)
                moved += found
        copies.append((users, copy(f"{stretch.name}.weights", moved, tier, True)))
    # Copies are numbered after all ops, so that dependencies keep their numbers.
    building.edges += dependencies(program)
    for section, (users, op) in enumerate(copies):
        if op is None:
            continue
        number = building.add("copy", op.name, op, section)
        building.edges.append(OrderEdge(number, users[0]))
        building.buffers.append(Buffer(op.name, number, users[-1], ahead + 1))
    return building.order()
