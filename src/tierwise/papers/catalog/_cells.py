"""Four networks of architecture search as graphs of operators, as :mod:`tierwise.papers.catalog._dnns` has them.

Cells of NASNet-A (arXiv:1707.07012), AmoebaNet (arXiv:1802.01548), PNASNet-5 (arXiv:1712.00559) and DARTS
(arXiv:1806.09055), stacked for images of 224 pixels as HMCOS does (script/nas.py of wzh99/HMCOS): four cells between
reductions, of which two stand at the beginning. Its PNASNet has no filters given: DARTS's are taken.
"""

from __future__ import annotations

from dataclasses import dataclass

from tierwise.papers.base import OperatorGraph
from tierwise.papers.catalog._dnns import Map, Network

Block = tuple[tuple[str, int], tuple[str, int]]  # (operation, number of the block it reads), twice: what is summed


@dataclass(frozen=True)
class Cells:
    """Blocks of a normal cell and of one that halves the grid, which of them are joined, filters of the first."""

    normal: tuple[Block, ...]
    joined: tuple[int, ...]
    reduction: tuple[Block, ...]
    reduced: tuple[int, ...]
    filters: float


_PNAS: tuple[Block, ...] = (
    (("sep", 0), ("pool", 0)), (("sep", 1), ("pool", 1)), (("sep", 1), ("sep", 1)), (("sep", 4), ("pool", 1)),
    (("sep", 0), ("pool", 1)),
)  # fmt: skip
CELLS = {
    "PNASNet-5": Cells(_PNAS, (2, 3, 4, 5, 6), _PNAS, (2, 3, 4, 5, 6), 12),
    "AmoebaNet": Cells(
        ((("pool", 0), ("pool", 0)), (("id", 0), ("pool", 1)), (("sep", 2), ("sep", 1)), (("sep", 2), ("id", 1)),
         (("pool", 4), ("sep", 0))), (3, 5, 6),
        ((("pool", 0), ("sep", 1)), (("pool", 1), ("pool", 0)), (("pool", 0), ("sep", 2)), (("sep", 0), ("pool", 1)),
         (("sep", 3), ("thin", 0))), (4, 5, 6), 12.5),
    "NASNet-A": Cells(
        ((("sep", 1), ("sep", 0)), (("sep", 0), ("sep", 0)), (("pool", 1), ("id", 0)), (("pool", 0), ("pool", 0)),
         (("sep", 1), ("id", 1))), (0, 2, 3, 4, 5, 6),
        ((("sep", 1), ("sep", 0)), (("pool", 1), ("sep", 0)), (("pool", 1), ("sep", 0)), (("id", 3), ("pool", 2)),
         (("sep", 2), ("pool", 1))), (3, 4, 5, 6), 11),
    "DARTS": Cells(
        ((("sep", 0), ("sep", 1)), (("sep", 0), ("sep", 1)), (("sep", 1), ("id", 0)), (("id", 0), ("dil", 2))),
        (2, 3, 4, 5),
        ((("pool", 0), ("pool", 1)), (("id", 2), ("pool", 1)), (("pool", 0), ("id", 2)), (("id", 2), ("pool", 1))),
        (2, 3, 4, 5), 12),
}  # fmt: skip
STACKED, STEM = 4, 32.0


def network(name: str) -> OperatorGraph:
    """The whole network; a cell reads the two before it."""
    cells, n = CELLS[name], Network()
    before, x, filters = None, n.conv(n.image(), STEM, 2), cells.filters
    for reducing in (True, True, *([False] * STACKED + [True]) * 2, *[False] * STACKED):
        filters *= 2 if reducing else 1
        here = n.conv(n.norm(x), filters)
        there = here if before is None else _fitted(n, before, here, filters)
        before, x = x, _cell(n, [there, here], cells, filters, reducing)
    n.conv(n.mean(n.norm(x)), 1000)
    return n.graph()


def _cell(n: Network, found: list[Map], cells: Cells, filters: float, reducing: bool) -> Map:
    for block in cells.reduction if reducing else cells.normal:
        sides = [_operation(n, found[at], kind, filters, 2 if reducing and at < 2 else 1) for kind, at in block]
        found.append(n.add(*sides))
    return n.join([found[i] for i in (cells.reduced if reducing else cells.joined)])


def _operation(n: Network, x: Map, kind: str, filters: float, stride: float) -> Map:
    if kind == "id":
        return x
    if kind == "pool":
        return n.pool(x, stride)
    if kind == "thin":
        return n.conv(n.conv(x, filters, stride), filters)
    # Activation, depthwise and pointwise convolution; a separable one twice, its second activation behind the first.
    y = n.conv(n.conv(n.norm(x), x.channels, stride), filters)
    return y if kind == "dil" else n.conv(n.conv(y, filters), filters)


def _fitted(n: Network, before: Map, here: Map, filters: float) -> Map:
    """The cell before the last in the shape of the last: two halves, one moved by a position, where grids differ."""
    x = n.norm(before)
    if before.side == here.side:
        return n.conv(x, filters)
    moved = n.pool(n.put("crop", [n.put("pad", [x], Map(0, x.channels, x.side + 1))], x), 2)
    return n.join([n.conv(n.pool(x, 2), filters // 2), n.conv(moved, filters // 2)])
