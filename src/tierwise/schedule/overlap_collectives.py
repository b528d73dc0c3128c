"""Collectives on the links, beside compute that does not need them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tierwise.program.edges import stretches
from tierwise.program.program import Program
from tierwise.schedule._order_builder import in_lanes
from tierwise.schedule.types import Order, OrderEdge


def order(program: Program, behind: int = 0, kinds: Sequence[str] = ("all_reduce",)) -> Order:
    """Compute in one lane, collectives in another.

    Args:
        behind: how many collectives back the result is that compute reads in place of the newest one. 0 is the program
            as it stands: what reads a sum waits for it. 1 lets each sum run beside the block that follows, as a
            residual stream rewired for it allows (Ladder Residual, arXiv:2501.06589). What follows the last layer
            still waits for all of them, and the first layer of a stack for the last of the stack before.
        kinds: collectives that may be read late; all others are waited for.
    """
    plain = in_lanes(program, ("device", "link"), lambda op: "link" if op.kind == "collective" else "device")
    if behind <= 0:
        return plain
    late: dict[int, list[int]] = {}  # of each rewired collective, all of its stretch
    base = 0
    for stretch in stretches(program):
        row = [base + i for i, p in enumerate(stretch.ops)
               if p.op.kind == "collective" and p.op.options.get("collective") in kinds]  # fmt: skip
        late |= dict.fromkeys(row, row)
        base += len(stretch.ops)
    edges = (_earlier(e, late[e.of], behind) if e.of in late and not e.before else e for e in plain.edges)
    return replace(plain, edges=tuple(dict.fromkeys(edges)))


def _earlier(edge: OrderEdge, row: Sequence[int], behind: int) -> OrderEdge:
    """The same wait, for the collective ``behind`` before it in a repeat of these."""
    turns, place = divmod(row.index(edge.of) - behind, len(row))
    return OrderEdge(row[place], edge.to, edge.distance - turns)
