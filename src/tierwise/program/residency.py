"""What of a sweep is found in a cache that outlives it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tierwise.core.num import Num, maximum, minimum, where


def cyclic_lru(size: Num, capacity: Num, passes: Num = np.inf, warm: bool = False) -> Num:
    """Share of the bytes read that are found in a cache, for the same bytes read in the same order again and again.

    Args:
        size: bytes of one sweep (the weights of a model larger than memory, read layer by layer).
        capacity: bytes of the cache, which drops what was used least recently (an operating system's page cache).
        passes: sweeps, at least 1; without end unless given.
        warm: the sweep was made before: the first pass finds what later ones find.

    A sweep that fits is found whole from the second pass on. One that is larger finds nothing, ever: each byte is
    dropped just before it is read again.
    """
    first = 0.0 if warm else 1.0
    return where(np.asarray(size) <= capacity, 1.0 - first / maximum(passes, 1.0), 0.0)


def random_lru(size: Num, capacity: Num) -> Num:
    """The same for bytes that are read at random and alike often, such as the experts that tokens are sent to: what is
    cached is found, whatever is dropped first. Experts that are not alike often are found more often.
    """
    return minimum(1.0, capacity / maximum(size, 1e-300))


def popularity(experts: int, skew: Num) -> NDArray[np.float64]:
    """Chances of being chosen, the most popular first, along the last axis: Zipf's law, 1 / rank ** skew."""
    law = np.arange(1.0, experts + 1.0) ** -np.asarray(skew, float)[..., None]
    return np.asarray(law / law.sum(-1, keepdims=True))


def held_experts(chances: NDArray[np.float64], capacity: Num) -> NDArray[np.float64]:
    """Chance of each expert to be in a cache of ``capacity`` experts that drops what was used least recently, when they
    are drawn one after the other (the approximation of Che, Tung and Wang, doi:10.1109/JSAC.2002.801752): it is there
    if it was drawn within the time in which the cache fills, so that their chances add up to the capacity.
    """
    room = np.asarray(capacity, float)
    low, high = np.zeros(room.shape), np.full(room.shape, 60.0)  # of the logarithm of 1 + that time
    for _ in range(60):
        middle = (low + high) / 2.0
        full = (-np.expm1(-chances * np.expm1(middle)[..., None])).sum(-1) >= room
        low, high = np.where(full, low, middle), np.where(full, middle, high)
    found = -np.expm1(-chances * np.expm1(high)[..., None])
    return np.asarray(np.where((room >= chances.shape[-1])[..., None], 1.0, found))


def missed_experts(outside: Num, experts: int, draws: Num, skew: Num) -> Num:
    """Share of the experts that a step needs which a cache of the least recently used does not hold.

    Args:
        outside: share of the experts' bytes for which the cache has no room.
        draws: experts that the step's tokens choose, repeats counted.
        skew: Zipf exponent of their popularity; 0 where all are chosen alike often, which misses ``outside``.

    A step of many draws needs almost all of them, however popular some are.
    """
    chances = popularity(experts, skew)
    held = held_experts(chances, (1.0 - np.asarray(outside, float)) * experts)
    needed = -np.expm1(np.asarray(draws, float)[..., None] * np.log1p(-np.minimum(chances, 1.0 - 1e-12)))
    return np.asarray((needed * (1.0 - held)).sum(-1) / needed.sum(-1))[()]


def skew_of(chosen: NDArray[np.int64], experts: int) -> float:
    """Zipf exponent of a trace: the most likely one, given how often each expert was chosen."""
    counts = np.sort(np.bincount(chosen, minlength=experts)[:experts])[::-1].astype(float)
    ranks = np.log(np.arange(1.0, experts + 1.0))
    wanted = float((counts * ranks).sum() / max(counts.sum(), 1.0))  # mean logarithm of the rank
    low, high = 0.0, 8.0
    for _ in range(60):
        middle = (low + high) / 2.0
        mean = float((popularity(experts, middle) * ranks).sum())
        low, high = (middle, high) if mean > wanted else (low, middle)
    return low
