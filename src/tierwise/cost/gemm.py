"""One GEMM kernel with coefficients: tiles in waves, K cut or not, operands warm or cold, a clock that sags.

What separates a kernel from the datasheet, in the order it was found in measurements of four devices and three
serving engines (see ``calibration/*/matmul.yaml``; a coefficient's name is given in brackets):

- every launch pays a start-up [launch] and the first trip to memory another [wake];
- a tile's prologue and epilogue cost as much as some more K would [startup], and its steps through K have a
  latency below which more arithmetic rate does not help [step];
- small tiles feed the matrix units worse than large ones [shape]; libraries that search pick the best of their
  menu, others go by the rows alone: tiles that cover a fraction of them [aim], whatever that does to the waves;
- a part-filled last wave costs a part [waves]: persistent kernels pay little of it, tile-per-block ones all;
- too few tiles: K is cut over the idle units, for a synchronisation [split] and the traffic of partial sums;
- compute, cache and memory overlap imperfectly [overlap: the exponent of a power mean];
- of the last cache only a share works as one [usable]: operands beyond it come from memory, and come again for
  every wave that has lost them [refetch];
- arithmetic that goes on for milliseconds runs into the power limit and loses clock [sustained];
- 8- and 4-bit arithmetic first quantizes the activations: a kernel [quantize], its traffic [requant], its rows [rows].
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from tierwise.core.num import Num, ceil_div, maximum, minimum, num, scalar, where
from tierwise.cost.constants import constant
from tierwise.cost.types import Fit, Target
from tierwise.machines.types import Engine

# Rows of the shortest tile: the M of one matrix instruction (PTX ISA). Decoding kernels use it.
_SHORT = (16, 64)
# Tiles of kernels that go by the rows: least and most height, and the widths they come in (CUTLASS kernels of vLLM
# and SGLang for fp8).
_HEIGHTS = constant("gemm.heights.least"), constant("gemm.heights.most")
_WIDTHS = constant("gemm.widths.least"), constant("gemm.widths.most")
# Shorter cuts of K than this leave a mainloop nothing to pipeline (CUTLASS steps K by 32 to 128, 3 to 4 stages).
_LEAST_K = constant("gemm.least_k")
# The sides of the largest tile a unit's accumulators hold, 256 by 256, as operand elements per multiply-add.
_LARGEST = 2.0 / constant("gemm.largest")
# How sharply an operand set a little larger than the cache stops hitting, and how long the power limiter takes:
# milliseconds fit four devices better than tenths or tens of them.
_SHARP = constant("gemm.sharp")
_LIMITER = constant("gemm.limiter")
# A fetch this small is all first trip: some tens of bytes in flight on each of several thousand lanes.
_WAKE = constant("gemm.wake")
# Partial sums are written and read in fp32.
_PARTIAL = 8.0


@dataclass(frozen=True)
class Kernel:
    """Seconds of one kernel by what they go to. ``overlapped`` parts run together, ``serial`` parts add up."""

    overlapped: Mapping[str, Num]
    serial: Mapping[str, Num]
    cached: Num
    moved: Num


def kernel(
    on: Target,
    fit: Fit,
    rate: Num,
    engine: Engine,
    m: Num,
    n: Num,
    k: Num,
    *,
    batch: Num = 1.0,
    weight: Num = 2.0,
    act: Num = 2.0,
    out: Num = 2.0,
    produced: bool = False,
) -> Kernel:
    """``batch`` GEMMs of (m, k) × (k, n) in one kernel.

    Args:
        rate: datasheet FLOP/s of the arithmetic.
        m, n, k, batch: sizes, broadcastable.
        weight, act, out: bytes an element of the (k, n), (m, k) and (m, n) operands.
        produced: the (k, n) operand is no weight but another kernel's result.
    """
    weights = n * k * batch * weight
    acts, results = m * k * batch * act, m * n * batch * out
    usable = on.cache_capacity * fit["usable"]
    spilled = _missed(weights + acts + results, usable)
    missed: Num = spilled if produced else 1.0 - on.resident
    if on.weight_copies:
        # A buffer comes back after the whole cycle, one that every turn uses after a single turn.
        missed = _missed(weights * on.weight_copies + acts * on.input_copies + results, usable)
        spilled = missed if on.input_copies > 1 else spilled
    cold = weights * missed + (acts + results) * spilled
    units = num(engine.units)
    per_k = (weight + act) / 2.0
    speed = rate * fit["compute"]
    memory = on.memory.bandwidth * fit["memory"]
    cache = (on.device.cache.bandwidth if on.device.cache is not None else np.inf) * fit["cache"]
    fetch = fit["refetch"] * spilled / units**0.5
    best: list[Num] | None = None
    for tm, tn, barred in _shapes(engine, fit["aim"], m):
        lag = 2.0 * tm * tn * units * (1.0 + fit["shape"] * maximum(1.0 / tm + 1.0 / tn - _LARGEST, 0.0)) / speed
        tiles = ceil_div(m, tm) * ceil_div(n, tn) * batch
        tiles = where(tiles > 0.0, tiles, 1.0)  # nothing to do takes a launch
        streamed = maximum(tiles * ((tm + tn) * per_k) * k, weights + acts) + results
        hbm = (cold + fetch * streamed) / memory
        most = maximum(minimum(np.floor(units / tiles), maximum(k / _LEAST_K, 1.0)), 1.0)
        for cuts in (1.0, most) if np.any(np.asarray(most) > 1.0) else (1.0,):
            filled = tiles * cuts / units
            waves = fit["waves"] * ceil_div(filled, 1.0) + (1.0 - fit["waves"]) * maximum(filled, 1.0)
            compute = waves * (k / cuts * maximum(lag, per_k * fit["step"]) + fit["startup"] * lag)
            l2 = streamed / (cache * minimum(filled, 1.0))
            split = where(np.asarray(cuts) > 1.0, fit["split"] + cuts * m * n * batch * (_PARTIAL / cache), 0.0)
            # What a tuner would go by: the power mean again, of a fixed exponent, which is cheap.
            found = [_fourth(compute, l2, hbm) + split + barred, compute, l2, split, streamed]
            if best is None:
                best = found
            else:
                better = found[0] < best[0]
                best = [where(better, x, y) for x, y in zip(found, best, strict=True)]
    assert best is not None
    _, compute, l2, split, streamed = best
    fetched = cold + fetch * streamed
    hbm = fetched / memory + fit["wake"] * minimum(fetched / _WAKE, 1.0)
    busy, power = maximum(compute, l2, hbm, 1e-30), fit["overlap"]
    mean = busy * ((compute / busy) ** power + (l2 / busy) ** power + (hbm / busy) ** power) ** (1.0 / power)
    whole = mean + split
    # A kernel alone in a loop that is soon over runs at the full clock. Among others the limiter has long acted,
    # on those that are mostly arithmetic.
    acted = whole / (whole + _LIMITER) if on.weight_copies else compute / maximum(whole, 1e-30)
    throttled = fit["sustained"] * compute * acted
    return Kernel(
        {"compute": compute, on.memory.name: hbm, on.cache_name: l2},
        {"dispatch": fit["launch"], "overlap": mean - busy, "split": split, "throttle": throttled},
        streamed,
        fetched,
    )


def _fourth(*parts: Num) -> Num:
    total: Num = 0.0
    for x in parts:
        square = x * x
        total = total + square * square
    return np.sqrt(np.sqrt(total))


def _shapes(engine: Engine, aim: Num, m: Num) -> Iterator[tuple[Num, Num, Num]]:
    """(height, width, seconds that bar it) of the tiles to consider: the menu, or those that go by the rows."""
    by_rows = np.asarray(aim) > 0
    if not np.all(by_rows):
        for tm, tn in (*engine.tiles, _SHORT):
            yield float(tm), float(tn), where(by_rows, 1e9, 0.0)
    if np.any(by_rows):
        covered = maximum(np.asarray(m) * aim, 1.0)
        height = scalar(np.clip(2.0 ** np.ceil(np.log2(covered)), *_HEIGHTS))
        for width in _WIDTHS:
            yield height, width, where(by_rows, 0.0, 1e9)


def quantize(on: Target, fit: Fit, units: Num, m: Num, k: Num, act: Num) -> Num:
    """Seconds to quantize (m, k) activations of 2 bytes to ``act`` bytes before the product; 0 for plain arithmetic."""
    traffic = fit["requant"] * m * k * (2.0 + act) / on.memory.bandwidth
    return fit["quantize"] + maximum(traffic, fit["rows"] * m / units)


def _missed(held: Num, usable: Num) -> Num:
    """Fraction of a working set that a cache misses: none while it fits, all soon after."""
    return 1.0 - 1.0 / (1.0 + (held / usable) ** _SHARP)

