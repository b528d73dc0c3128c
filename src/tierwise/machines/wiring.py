"""Which tier feeds which: what a file says by ``to``, else the usual chain from the engines outward.

On-chip tiers feed each other in the order of the list and the first of them the engines; every main memory feeds the
last on-chip tier (or the engines, where there is none), every storage tier the first main memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol


class TierLike(Protocol):
    """What wiring asks of a tier, built or still as read from a file."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def to(self) -> tuple[str, ...]: ...


def feeds(tiers: Sequence[TierLike], engines: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
    """The tiers and engines that each tier feeds, by name.

    Args:
        tiers: in the order of the file, nearest to the engines first.
        engines: their names.
    """
    chip = [t.name for t in tiers if t.kind in ("scratchpad", "cache")]
    main = [t.name for t in tiers if t.kind == "memory"]
    out: dict[str, tuple[str, ...]] = {}
    for t in tiers:
        if t.to:
            out[t.name] = t.to
        elif t.kind == "storage" and main:
            out[t.name] = (main[0],)
        elif t.name in chip and t.name != chip[0]:
            out[t.name] = (chip[chip.index(t.name) - 1],)
        elif t.name not in chip and chip:
            out[t.name] = (chip[-1],)
        else:
            out[t.name] = tuple(engines)
    return out


def fed(feeding: Mapping[str, tuple[str, ...]], sinks: Sequence[str]) -> set[str]:
    """The tiers whose bytes reach one of the ``sinks`` in the end, and the sinks."""
    found = set(sinks)
    while True:
        more = {name for name, to in feeding.items() if found & set(to)} - found
        if not more:
            return found
        found |= more
