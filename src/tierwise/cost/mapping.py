"""A mapping of a loop nest onto levels of memory, and what it moves between them."""

from __future__ import annotations

from collections.abc import Mapping as Map
from collections.abc import Sequence
from dataclasses import dataclass

from tierwise.core.num import Num


@dataclass(frozen=True)
class Loop:
    """``size`` turns over a piece of one dim; ``spatial``: on so many units at once, not one after the other."""

    dim: str
    size: Num
    spatial: bool = False


@dataclass(frozen=True)
class Mapping:
    """Which loops run over the tiles that lie in each level.

    Attributes:
        levels: from the farthest memory to the nearest, each a name and its loops, outermost first. The loops of a
            level run over tiles of the level below it; the nearest level's run over single elements.
    """

    levels: tuple[tuple[str, tuple[Loop, ...]], ...]

    @property
    def steps(self) -> Num:
        """Turns of all loops one after the other."""
        return _product([x.size for _, loops in self.levels for x in loops if not x.spatial])


def moved(mapping: Mapping, operands: Map[str, Sequence[str]]) -> dict[tuple[str, str], Num]:
    """Elements of each operand that are read out of each level but the last, into the one below.

    Args:
        operands: the dims that index each.

    A tile stays where it is while only loops turn that do not index it: those innermost in the levels above it. Units
    that need the same tile at once get it in one read (a multicast). Partial sums are not followed: an output counts as
    often as its tile is brought, to be written back as often.
    """
    out: dict[tuple[str, str], Num] = {}
    for name, dims in operands.items():
        for i in range(len(mapping.levels) - 1):
            above = [x for _, loops in mapping.levels[: i + 1] for x in loops]
            below = [x for _, loops in mapping.levels[i + 1 :] for x in loops]
            turning = [x for x in above if not x.spatial]
            while turning and turning[-1].dim not in dims:
                turning.pop()
            fills = _product([x.size for x in turning])
            spread = _product([x.size for x in above if x.spatial and x.dim in dims])
            out[name, mapping.levels[i][0]] = fills * spread * _product([x.size for x in below if x.dim in dims])
    return out


def _product(sizes: Sequence[Num]) -> Num:
    out: Num = 1.0
    for x in sizes:
        out = out * x
    return out
