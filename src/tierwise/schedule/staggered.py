"""Two micro-batches half a layer apart on one compute stream, the tokens they send to experts in flight meanwhile.

As DeepSeek decodes (github.com/deepseek-ai/profile-data, decode.json: one stream) and SGLang's two-batch overlap does
(lmsys.org/blog/2025-05-05-large-scale-ep): while one batch's tokens travel to their experts, the other computes what
follows its experts and the projections before its attention; while the results travel back, the other attends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from tierwise.program.edges import Placed, stretches
from tierwise.program.program import Program
from tierwise.schedule._order_builder import OrderBuilder, dependencies
from tierwise.schedule.types import Order, OrderEdge

BATCHES = ("first", "second")
# Equal parts of a batch, one of which the program is.
PARTS = len(BATCHES)
# Parts of a layer, cut at its attention and at both exchanges; those that a turn works off, by (batch, part). The
# second batch's last two parts are those of the layer before.
_BEFORE, _ATTENDING, _EXPERTS, _AFTER = range(4)
_TURN = ((0, _BEFORE), (1, _EXPERTS), (0, _ATTENDING), (1, _AFTER), (1, _BEFORE), (0, _EXPERTS), (1, _ATTENDING),
         (0, _AFTER))  # fmt: skip


def order(program: Program) -> Order:
    """Layers with exchanges in parts of both batches by turns; everything else batch by batch.

    Args:
        program: of one micro-batch (half of the batch).
    """
    building = OrderBuilder(("compute", "link"))
    number: dict[tuple[int, int], int] = {}  # (batch, op of the program): op of the order
    late: set[int] = set()  # ops of the program that the second batch executes a turn later
    base = 0
    for stretch in stretches(program):
        building.section(stretch.turns)
        parts = _parts(stretch.ops)
        if parts:
            late |= {base + i for part in (_EXPERTS, _AFTER) for i in parts[part]}
        row = _TURN if parts else tuple((batch, 0) for batch in range(PARTS))
        for batch, part in row:
            for i in parts[part] if parts else range(len(stretch.ops)):
                p = stretch.ops[i]
                lane = "link" if p.op.kind == "collective" else "compute"
                number[batch, base + i] = building.add(lane, f"{BATCHES[batch]} {p.name}", p.op)
        base += len(stretch.ops)
    for e in dependencies(program):
        building.edges.append(replace(e, of=number[0, e.of], to=number[0, e.to]))
        later = 0 if e.before else (e.to in late) - (e.of in late)
        building.edges.append(OrderEdge(number[1, e.of], number[1, e.to], e.distance + later, e.before))
    return building.order()


def _parts(ops: Sequence[Placed]) -> list[list[int]]:
    """Ops of each part of a layer that sends tokens to experts, exchanges with the part that ends in them; nothing
    where it is no such layer."""
    sends = [i for i, p in enumerate(ops) if p.op.options.get("collective") == "all_to_all"]
    attends = [i for i, p in enumerate(ops) if p.op.kind == "attention"]
    if len(sends) != 2 or not attends or attends[0] > sends[0]:
        return []
    cuts = [0, attends[0], sends[0] + 1, sends[1] + 1, len(ops)]
    return [list(range(a, b)) for a, b in pairwise(cuts)]
