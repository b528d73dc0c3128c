"""One lane: ops run one after the other, collectives in line."""

from __future__ import annotations

from tierwise.program.program import Program
from tierwise.schedule._order_builder import in_lanes
from tierwise.schedule.types import Order


def order(program: Program) -> Order:
    """Every op on the device, in the order of the program."""
    return in_lanes(program, ("device",), lambda op: "device")
