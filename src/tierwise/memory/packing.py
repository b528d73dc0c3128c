"""Static allocation: buffers with lifetimes into one arena, exactly.

Every buffer lives from ``lower`` (included) to ``upper`` (excluded) and takes ``size`` bytes in a row; buffers that
live at once must not overlap. :func:`pack` finds offsets below a capacity, proves that there are none, or says that its
time was up. First-fit in a few orders is tried before the exact search (:mod:`tierwise.memory.packing_search`).
"""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tierwise.core.errors import BadField, TierwiseError

Whole = NDArray[np.int64]

COLUMNS = ("id", "lower", "upper", "size")
MOST = 1 << 53  # sums of sizes stay exact
LARGEST = 20_000  # buffers


@dataclass(frozen=True)
class Buffers:
    """Buffers, an element each.

    Attributes:
        ids: names. ``lower``, ``upper``: first moment and first moment after. ``size``: bytes.
    """

    ids: tuple[str, ...]
    lower: Whole
    upper: Whole
    size: Whole

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Packing:
    """What was found.

    Attributes:
        status: ``packed``, ``impossible`` (proved) or ``unknown`` (the time was up).
        offsets: of each buffer, where packed. ``height``: bytes that they take.
        bound: bytes that any packing takes at least: the most that lives at once.
        how: what found it: ``first fit`` or ``search``. ``nodes``: placements that the search tried.
    """

    status: str
    offsets: Whole | None
    height: int
    bound: int
    how: str
    nodes: int
    seconds: float


def read(path: Path) -> Buffers:
    """Buffers of a CSV file with the columns of :data:`COLUMNS` (MiniMalloc's format); others are passed over.

    Raises:
        TierwiseError: no such file, or a row that cannot be: which, and why.
    """
    if not path.is_file():
        raise TierwiseError(f"{path}: no such file")
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, skipinitialspace=True))
    except (UnicodeDecodeError, csv.Error):
        raise TierwiseError(f"{path}: not a CSV file of text") from None
    if not rows or any(c not in rows[0] for c in COLUMNS):
        found = sorted(str(c) for c in rows[0]) if rows else None
        raise BadField(str(path), "columns", found, "a table with " + ", ".join(COLUMNS))
    if len(rows) > LARGEST:
        raise BadField(str(path), "rows", len(rows), f"at most {LARGEST:,} buffers")
    numbers = np.asarray([[_whole(path, i, c, row[c]) for c in COLUMNS[1:]] for i, row in enumerate(rows, start=2)])
    return checked(Buffers(tuple(str(r["id"]) for r in rows), *numbers.T.astype(np.int64)), str(path))


def _whole(path: Path, line: int, column: str, text: str | None) -> int:
    try:
        value = int(str(text).strip())
    except ValueError:
        raise BadField(f"{path}: line {line}", column, text, "a whole number") from None
    if not 0 <= value <= MOST:
        raise BadField(f"{path}: line {line}", column, text, f"a whole number from 0 to {MOST}")
    return value


def checked(b: Buffers, where: str = "buffers") -> Buffers:
    """The buffers, if they can be.

    Raises:
        BadField: an id twice, a lifetime that ends before it starts, sizes that add up to too much.
    """
    seen: set[str] = set()
    for i, name in enumerate(b.ids):
        if name in seen:
            raise BadField(where, "id", name, "each id once")
        seen.add(name)
        if b.upper[i] <= b.lower[i]:
            raise BadField(where, f"buffer {name}", f"from {b.lower[i]} to {b.upper[i]}", "an end after its start")
    if float(np.sum(b.size.astype(float))) > MOST:
        raise BadField(where, "size", "more in all than 2**53 bytes", f"at most {MOST}")
    return b


def live(b: Buffers) -> int:
    """The most bytes that live at once: no packing takes less."""
    points = np.unique(np.concatenate([b.lower, b.upper]))
    change = np.zeros(len(points), dtype=np.int64)
    np.add.at(change, np.searchsorted(points, b.lower), b.size)
    np.subtract.at(change, np.searchsorted(points, b.upper), b.size)
    return int(np.max(np.cumsum(change), initial=0))


def overlapping(b: Buffers) -> NDArray[np.bool_]:
    """Which pairs live at once, (n, n); none with itself."""
    out = (b.lower[:, None] < b.upper[None]) & (b.lower[None] < b.upper[:, None])
    np.fill_diagonal(out, False)
    return np.asarray(out)


def verified(b: Buffers, offsets: Whole, capacity: int) -> bool:
    """Whether offsets are a packing: inside the arena, and apart wherever two buffers live at once."""
    top = offsets + b.size
    apart = (top[:, None] <= offsets[None]) | (top[None] <= offsets[:, None])
    empty = (b.size == 0)[:, None] | (b.size == 0)[None]
    inside = bool(np.all((offsets >= 0) & (top <= capacity)))
    return inside and bool(np.all(apart | empty | ~overlapping(b)))


def first_fit(b: Buffers, order: Sequence[int] | Whole, over: NDArray[np.bool_] | None = None) -> Whole:
    """Each buffer at the lowest gap that holds it, in an order."""
    over = overlapping(b) if over is None else over
    out = np.full(len(b), -1, dtype=np.int64)
    for i in order:
        near = np.flatnonzero(over[i] & (out >= 0))
        at = 0
        for j in near[np.argsort(out[near], kind="stable")]:
            if out[j] - at >= b.size[i]:
                break
            at = max(at, int(out[j] + b.size[j]))
        out[i] = at
    return out


def orders(b: Buffers) -> Iterator[Whole]:
    """Orders that people allocate in: by area, by size, by lifetime, by start, as they come."""
    span = b.upper - b.lower
    for keys in ((-b.size * span.astype(float),), (span, -b.size), (-b.size, -span), (b.lower, -b.size)):
        yield np.lexsort(keys[::-1]).astype(np.int64)
    yield np.arange(len(b), dtype=np.int64)


def pack(b: Buffers, capacity: int, seconds: float = 60.0, told: Callable[[int, float], None] | None = None) -> Packing:
    """Offsets below a capacity, or a proof that there are none.

    Args:
        seconds: to search at most. ``told``: called now and then with the nodes and seconds so far.

    Raises:
        BadField: a buffer larger than the capacity.
    """
    began, bound = time.perf_counter(), live(b)
    if len(b) and int(b.size.max()) > capacity:
        largest = int(np.argmax(b.size))
        allowed = f"at least {b.size[largest]}, the size of buffer {b.ids[largest]} ({bound} live at once)"
        raise BadField("capacity", "bytes", capacity, allowed)

    def found(status: str, offsets: Whole | None, how: str, nodes: int) -> Packing:
        height = 0 if offsets is None else int(np.max(offsets + b.size, initial=0))
        return Packing(status, offsets, height, bound, how, nodes, time.perf_counter() - began)

    if bound > capacity:
        return found("impossible", None, "live bytes", 0)
    over = overlapping(b)
    for order in orders(b):
        offsets = first_fit(b, order, over)
        if np.max(offsets + b.size, initial=0) <= capacity:
            return found("packed", offsets, "first fit", 0)
    from tierwise.memory.packing_search import search

    status, placed, nodes = search(b.lower, b.upper, b.size, over, capacity, began + seconds, told)
    return found(status, placed, "search", nodes)


def smallest(b: Buffers, seconds: float = 60.0, told: Callable[[int, float], None] | None = None) -> Packing:
    """The lowest packing found: at the bound where there is one, else the best within the time."""
    began, bound, over = time.perf_counter(), live(b), overlapping(b)
    tried = [first_fit(b, order, over) for order in orders(b)]
    best = min(tried, key=lambda x: int(np.max(x + b.size, initial=0)))
    height, low, nodes = int(np.max(best + b.size, initial=0)), bound, 0
    target = bound
    while height > low and time.perf_counter() - began < seconds:
        left = seconds - (time.perf_counter() - began)
        # The bound first; it is most often reached.
        one = pack(b, target, left if target == low else left / 2.0, told)
        nodes += one.nodes
        if one.offsets is not None:
            best, height = one.offsets, one.height
        elif one.status == "impossible":
            low = target + 1
        elif target == low:
            break
        target = (low + height) // 2 if one.offsets is None else low
    took = time.perf_counter() - began
    return Packing("packed", best, height, low, "search" if nodes else "first fit", nodes, took)
