"""What a caching allocator takes from a device: more than the tensors that lie there at once.

PyTorch asks the driver for segments and never gives them back while there is room; a tensor takes the smallest free
block of its stream that holds it, which is split where enough is left, and joins its free neighbours once it goes. What
tools that ask the driver call used are the segments. Rules and sizes: CUDACachingAllocator.cpp of PyTorch 2 without
expandable segments, and "Memory management" in PyTorch's notes on CUDA.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

MIB = 2**20
UNIT = 512  # sizes are whole multiples of it
SMALL = MIB  # up to here tensors share segments of SMALL_SEGMENT, kept apart from larger ones
SMALL_SEGMENT = 2 * MIB
MIDDLE = 10 * MIB  # below, a segment of MIDDLE_SEGMENT; from here on one of its own, in whole multiples of LARGE_UNIT
MIDDLE_SEGMENT = 20 * MIB
LARGE_UNIT = 2 * MIB


@dataclass(frozen=True)
class TensorEvent:
    """A tensor that comes or goes.

    Attributes:
        size: bytes of one that comes; None for one that goes.
        stream: in whose blocks it lies.
    """

    name: str
    size: float | None = None
    stream: str = ""


@dataclass(eq=False)
class _Block:
    size: int
    pool: list[_Block]
    before: _Block | None = None
    behind: _Block | None = None
    free: bool = False


@dataclass
class CachingPool:
    """Segments of a device. ``reserved``: their bytes. ``held``, ``most``: bytes of blocks in use, now and at most."""

    reserved: int = 0
    held: int = 0
    most: int = 0
    _pools: dict[tuple[str, bool], list[_Block]] = field(default_factory=dict)
    _held: dict[str, _Block] = field(default_factory=dict)

    def take(self, name: str, size: float, stream: str = "") -> None:
        """A tensor comes."""
        bytes_ = max(-(-int(size) // UNIT) * UNIT, UNIT)
        small = bytes_ <= SMALL
        pool = self._pools.setdefault((stream, small), [])
        block = min((b for b in pool if b.size >= bytes_), key=lambda b: b.size, default=None)
        if block is None:
            block = _Block(_segment(bytes_), pool)
            self.reserved += block.size
        else:
            pool.remove(block)
            block.free = False
        left = block.size - bytes_
        if left >= UNIT if small else left > SMALL:
            rest = _Block(left, pool, block, block.behind, True)
            if rest.behind is not None:
                rest.behind.before = rest
            block.size, block.behind = bytes_, rest
            pool.append(rest)
        self._held[name] = block
        self.held += block.size
        self.most = max(self.most, self.held)

    def drop(self, name: str) -> None:
        """A tensor goes.

        Raises:
            KeyError: it is not there.
        """
        block = self._held.pop(name)
        self.held -= block.size
        for first, second in ((block, block.behind), (block.before, block)):
            if first is None or second is None or not (first.free or second.free):
                continue
            (first if first.free else second).pool.remove(first if first.free else second)
            first.size, first.behind = first.size + second.size, second.behind
            if first.behind is not None:
                first.behind.before = first
            block = first
        block.free = True
        block.pool.append(block)


def _segment(size: int) -> int:
    if size <= SMALL:
        return SMALL_SEGMENT
    return MIDDLE_SEGMENT if size < MIDDLE else -(-size // LARGE_UNIT) * LARGE_UNIT


def played(events: Iterable[TensorEvent]) -> CachingPool:
    """The segments once all of that has happened."""
    pool = CachingPool()
    for e in events:
        if e.size is None:
            pool.drop(e.name)
        else:
            pool.take(e.name, e.size, e.stream)
    return pool
