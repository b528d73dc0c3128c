"""PyTorch's caching allocator, by its documented rules and by hand."""

from __future__ import annotations

from collections.abc import Iterable

from tierwise.memory.caching import MIB, CachingPool, played
from tierwise.memory.caching import TensorEvent as Came


def reserved(events: Iterable[Came]) -> int:
    return played(events).reserved


def test_segments_have_the_sizes_that_are_documented() -> None:
    for size, segment in ((1, 2), (MIB, 2), (MIB + 1, 20), (9 * MIB, 20), (10 * MIB, 10), (11 * MIB + 1, 12)):
        assert reserved([Came("a", size)]) == segment * MIB, size


def test_what_went_serves_what_comes() -> None:
    # 8 and 8 MiB lie in one segment of 20; a third finds 4 MiB and takes a segment of its own.
    pool = CachingPool()
    for name in "ab":
        pool.take(name, 8 * MIB)
    assert pool.reserved == 20 * MIB
    pool.take("c", 8 * MIB)
    assert pool.reserved == 40 * MIB
    # Freed neighbours join: 16 MiB fit where two of 8 lay.
    pool.drop("a")
    pool.drop("b")
    pool.take("d", 16 * MIB)
    assert pool.reserved == 40 * MIB
    # Nothing goes back to the driver, whatever is freed.
    for name in "cd":
        pool.drop(name)
    assert pool.reserved == 40 * MIB


def test_freed_blocks_apart_serve_nothing_larger() -> None:
    events = [Came(n, 30 * MIB) for n in "abc"] + [Came("a"), Came("c"), Came("d", 40 * MIB)]
    # Three segments of 30; 60 MiB of them are free, and 40 need a segment of their own.
    assert reserved(events) == (3 * 30 + 40) * MIB


def test_a_large_block_is_split_where_more_than_a_mebibyte_is_left() -> None:
    first = [Came("a", 40 * MIB), Came("a")]
    assert reserved([*first, Came("b", 20 * MIB), Came("c", 20 * MIB)]) == 40 * MIB
    # 39.5 MiB take the whole block: half a mebibyte is left to nobody.
    assert reserved([*first, Came("b", 39.5 * MIB), Came("c", 1.2 * MIB)]) == 60 * MIB


def test_streams_share_nothing() -> None:
    assert reserved([Came("a", 40 * MIB, "one"), Came("a"), Came("b", 40 * MIB, "two")]) == 80 * MIB


def test_blocks_in_use_are_counted_and_the_most_there_ever_were() -> None:
    pool = played([Came("a", 3 * MIB), Came("b", 30 * MIB), Came("a"), Came("c", 5 * MIB)])
    assert pool.held == 35 * MIB and pool.most == 35 * MIB
    assert played([Came("a", 30 * MIB), Came("a"), Came("b", 10 * MIB)]).most == 30 * MIB
