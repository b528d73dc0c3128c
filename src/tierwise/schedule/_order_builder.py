"""From a program to an order: every op in the lane that a schedule names, its dependencies as edges."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from tierwise.core.num import Num
from tierwise.program.edges import edges, stretches
from tierwise.program.program import Program
from tierwise.program.types import Op, Operand
from tierwise.schedule.types import Buffer, Issue, Order, OrderEdge, Section


@dataclass
class OrderBuilder:
    """An order in the making: ops are added to lanes of sections, then the whole is frozen."""

    lanes: tuple[str, ...]
    names: list[str] = field(default_factory=list)
    work: list[Op | None] = field(default_factory=list)
    rows: list[dict[str, list[int]]] = field(default_factory=list)
    turns: list[Num] = field(default_factory=list)
    edges: list[OrderEdge] = field(default_factory=list)
    buffers: list[Buffer] = field(default_factory=list)

    def section(self, turns: Num) -> None:
        """Begin a section; ops are added to the last one."""
        self.rows.append({lane: [] for lane in self.lanes})
        self.turns.append(turns)

    def add(self, lane: str, name: str, work: Op | None, section: int = -1) -> int:
        """Issue an op next in a lane, once a turn of a section (the newest); returns its number."""
        self.names.append(name)
        self.work.append(work)
        self.rows[section][lane].append(len(self.names) - 1)
        return len(self.names) - 1

    def order(self) -> Order:
        # An op belongs to one section, so its turns follow each other by themselves.
        sections = tuple(
            Section({lane: tuple(Issue(op) for op in ops) for lane, ops in row.items() if ops}, turns, 1)
            for row, turns in zip(self.rows, self.turns, strict=True)
        )
        return Order(tuple(self.names), self.lanes, sections, tuple(dict.fromkeys(self.edges)), tuple(self.buffers),
                     tuple(self.work))  # fmt: skip


def in_lanes(program: Program, lanes: tuple[str, ...], lane_of: Callable[[Op], str]) -> Order:
    """Every op once, in the lane it is given, in the order of the program."""
    building = OrderBuilder(lanes)
    for stretch in stretches(program):
        building.section(stretch.turns)
        for p in stretch.ops:
            building.add(lane_of(p.op), p.name, p.op)
    building.edges += dependencies(program)
    return building.order()


def dependencies(program: Program) -> Iterator[OrderEdge]:
    """Edges between the ops of all stretches, numbered in a row."""
    for d in edges(program):
        yield OrderEdge(d.of, d.to, d.distance, d.before)


def copy(name: str, operands: Sequence[Operand], tier: str, inward: bool) -> Op | None:
    """An op that copies operands from a slower tier to memory (``inward``) or back; None where there are none."""
    if not operands:
        return None
    size = sum((o.bytes for o in operands), 0.0)
    ends = {"from": tier, "to": ""} if inward else {"from": "", "to": tier}
    dims = {"bytes": size, "transfers": float(len(operands))}
    return Op("copy", name, "copy", dims, 0.0, (), (), "", options=ends)
