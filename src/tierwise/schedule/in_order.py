"""One lane: ops run one after the other, collectives in line."""

from __future__ import annotations

from tierwise.program.program import Program
from tierwise.schedule._lay import laid
from tierwise.schedule.types import Order


def order(program: Program) -> Order:
    """Every op on the device, in the order of the program."""
    return laid(program, ("device",), lambda op: "device")
