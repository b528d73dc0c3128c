"""Products and convolutions on an array of processing elements: what a mapping moves over each memory level.

A mapping cuts the loops of an op into levels: those of the outermost memory bring tiles into the next, those of the
last shared memory bring tiles to the elements, the innermost run inside an element; between the last two, dims are
unrolled over the array. A tile stays where it is while only loops that its tensor does not depend on advance, so the
order of loops decides who is reused (Timeloop, ISPASS 2019, section V; ZigZag, IEEE TC 2021, counts alike). Trips may
be arrays, n mappings along their first axis; the order of loops is one for all.
"""

from __future__ import annotations

import time as clock
from collections.abc import Callable, Sequence
from collections.abc import Mapping as Dict
from dataclasses import dataclass
from math import prod

import numpy as np

from tierwise.core.errors import TierwiseError
from tierwise.core.num import Num, ceil_div, is_array, maximum, minimum, num, where
from tierwise.cost.mapping import Loop, Mapping
from tierwise.cost.types import Cost, Target
from tierwise.machines.types import Tier
from tierwise.program.types import Op

Loops = tuple[tuple[str, Num], ...]
# The axes of each tensor: an axis of two dims slides, the first over the second (a window over an image).
_MATMUL = {"first": (("m",), ("k",)), "second": (("k",), ("n",)), "out": (("m",), ("n",))}
_CONV = {
    "first": (("batch",), ("c_in",), ("out_h", "kh"), ("out_w", "kw")),
    "second": (("c_out",), ("c_in",), ("kh",), ("kw",)),
    "out": (("batch",), ("c_out",), ("out_h",), ("out_w",)),
}
_TENSORS: Dict[str, Dict[str, tuple[tuple[str, ...], ...]]] = {"matmul": _MATMUL, "conv": _CONV}


@dataclass(frozen=True)
class Spatial:
    """An op under a mapping.

    Attributes:
        cost: seconds of the array and of each memory, side by side, and bytes by memory.
        reads, writes: bytes by memory, reading and writing it: the actions that energy is counted by.
        macs: multiply-adds, padding included.
        utilization: share of the array's peak while it computes.
        fits: tiles fit their memories; those of shared ones twice, since the next is fetched meanwhile.
    """

    cost: Cost
    reads: Dict[str, Num]
    writes: Dict[str, Num]
    macs: Num
    utilization: Num
    fits: Num


def mapped(op: Op, on: Target) -> Cost | None:
    """The price of an op that the target has a mapping for; infinite where its tiles do not fit."""
    mapping = None if on.mapping is None else on.mapping(op)
    if mapping is None:
        return None
    found = spatial(op, on, mapping)
    overlapped = {k: where(found.fits, v, np.inf) for k, v in found.cost.overlapped.items()}
    return on.cost(op.kind, overlapped, op.flops, found.cost.bytes)


def spatial(op: Op, on: Target, mapping: Mapping) -> Spatial:
    """What a ``matmul`` or ``conv`` costs on the device's array under a mapping.

    The device's tiers are the levels, the farthest first, its innermost divided among the units of its engine. A
    result that is left and come back to is written and read again. Halos of sliding windows are fetched by each tile.

    Raises:
        TierwiseError: the kind of op has no mapping, or the mapping not as many levels as the device.
    """
    tensors, dims, times = _problem(op)
    levels, units, rate = _array(op, on)
    nest, unrolled = _loops(mapping)
    if len(nest) != len(levels):
        raise TierwiseError(f"{op.name}: a mapping of {len(nest)} levels, but {on.device.title} has "
                            f"{len(levels)} ({', '.join(t.name for t in levels)})")  # fmt: skip
    stride = op.dims.get("stride", 1.0)
    element = _widths(op)
    reads = {t.name: 0.0 * times for t in levels}
    writes = dict(reads)
    held: list[Num] = []
    used: Num = prod((n for _, n in unrolled), start=1.0)
    for i in range(len(levels) - 1):
        above, below = levels[i].name, levels[i + 1].name
        outer = tuple(x for loops in nest[: i + 1] for x in loops)
        inside = tuple(x for loops in nest[i + 1 :] for x in loops)
        last = i == len(levels) - 2
        # What one element holds, and what all of them hold of one tensor, each byte counted once.
        own, whole = _sizes(inside, dims), _sizes((*inside, *unrolled), dims)
        held.append(sum((_elements(a, own if last else whole, stride) * element[t] for t, a in tensors.items()), 0.0))
        for tensor, axes in tensors.items():
            relevant = {d for axis in axes for d in axis}
            visits = _visits(outer, relevant)
            size = _elements(axes, whole, stride) * element[tensor] * times
            # A byte that several elements need leaves the shared memory once and arrives at each.
            landed = _elements(axes, own, stride) * element[tensor] * times * used if last else size
            if tensor != "out":
                reads[above] = reads[above] + visits * size
                writes[below] = writes[below] + visits * landed
                continue
            again = visits - prod((n for d, n in outer if d in relevant), start=1.0)
            reads[below] = reads[below] + visits * landed
            writes[above] = writes[above] + visits * size
            reads[above] = reads[above] + again * size
            # Of elements that add up to one result, one takes the sum so far.
            writes[below] = writes[below] + again * size
    steps = prod((n for loops in nest for _, n in loops), start=1.0) * times
    macs = steps * used
    inner = levels[-1].name
    # Every multiply-add reads two operands and a partial sum, and writes the sum back.
    reads[inner] = reads[inner] + macs * sum(element.values())
    writes[inner] = writes[inner] + macs * element["out"]
    parts = {"compute": steps * 2.0 * units / rate}
    parts |= {t.name: reads[t.name] / t.bandwidth + writes[t.name] / t.write_bandwidth for t in levels}
    moved = {name: reads[name] + writes[name] for name in reads}
    room = [t.capacity / 2.0 for t in levels[1:-1]] + [levels[-1].capacity / units]
    fits = np.logical_and.reduce([np.asarray(h) <= r for h, r in zip(held, room, strict=True)])
    cost = Cost(parts, {}, op.flops, moved, "datasheet", on.efficiency.interval)
    busy = op.flops / rate / maximum(parts["compute"], 1e-300)
    return Spatial(cost, reads, writes, macs, busy, fits & (np.asarray(used) <= units))


def mapper(
    op: Op, on: Target, objective: Callable[[Spatial], Num], deadline: float, batch: int = 512, seed: int = 0
) -> tuple[Mapping, Num]:
    """A good mapping, and seconds that no mapping takes less than.

    Tries orders of loops and tiles at random until ``deadline`` seconds are over, ``batch`` mappings at a time.

    Args:
        objective: what to have little of, such as ``lambda s: s.cost.time``.

    Raises:
        TierwiseError: none of those tried fits.
    """
    _, dims, times = _problem(op)
    levels, units, rate = _array(op, on)
    if any(is_array(x) for x in (*dims.values(), times, units)):
        raise TierwiseError(f"{op.name}: a mapping is sought for one op on one array at a time")
    rng, until = np.random.default_rng(seed), clock.perf_counter() + deadline
    best: tuple[float, Mapping] | None = None
    while best is None or clock.perf_counter() < until:
        sides = {d: float(n) for d, n in dims.items()}
        tried = _random(rng, sides, [t.name for t in levels], float(num(units)), batch)
        found = spatial(op, on, tried)
        score = np.broadcast_to(np.where(found.fits, objective(found), np.inf), (batch,))
        i = int(np.argmin(score))
        if np.isfinite(score[i]) and (best is None or score[i] < best[0]):
            best = float(score[i]), _pick(tried, i)
        if best is None and clock.perf_counter() > until:
            raise TierwiseError(f"{op.name}: no mapping found that fits {on.device.title}")
    assert best is not None
    return best[1], maximum(op.flops / rate, op.bytes / maximum(levels[0].bandwidth, levels[0].write_bandwidth))


def laid_out(names: Sequence[str], loops: Sequence[Loops], unrolled: Loops = ()) -> Mapping:
    """A mapping from the loops of each memory, the farthest first, and those unrolled between the last two."""
    levels = [(name, tuple(Loop(d, n) for d, n in own)) for name, own in zip(names, loops, strict=True)]
    if unrolled:
        name, own = levels[-2]
        levels[-2] = (name, (*own, *(Loop(d, n, spatial=True) for d, n in unrolled)))
    return Mapping(tuple(levels))


def _loops(mapping: Mapping) -> tuple[tuple[Loops, ...], Loops]:
    """(loops of each level one after the other, those side by side)."""
    nest = tuple(tuple((x.dim, x.size) for x in own if not x.spatial) for _, own in mapping.levels)
    return nest, tuple((x.dim, x.size) for _, own in mapping.levels for x in own if x.spatial)


def _problem(op: Op) -> tuple[Dict[str, tuple[tuple[str, ...], ...]], dict[str, Num], Num]:
    """(axes of the tensors, iteration dims, how many equal problems)."""
    if op.kind not in _TENSORS:
        raise TierwiseError(f"{op.name}: no mapping of a {op.kind} on a spatial array; there is one of: "
                            + ", ".join(_TENSORS))  # fmt: skip
    tensors = _TENSORS[op.kind]
    names = sorted({d for axes in tensors.values() for axis in axes for d in axis})
    dims = {d: op.dims[d] for d in names}
    if op.kind == "matmul":
        return tensors, dims, op.dims.get("batch", 1.0)
    groups = op.dims.get("groups", 1.0)
    return tensors, {**dims, "c_in": dims["c_in"] / groups, "c_out": dims["c_out"] / groups}, groups


def _array(op: Op, on: Target) -> tuple[list[Tier], Num, Num]:
    """(memories, the farthest first; elements; FLOP/s of all)."""
    rate, engine = on.rate(op.arithmetic)
    return [t for t in reversed(on.device.tiers) if t.kind != "storage"], num(engine.units), rate


def _widths(op: Op) -> dict[str, Num]:
    first, second = op.reads[0], op.reads[1]
    return {"first": first.format.bytes, "second": second.format.bytes, "out": op.writes[0].format.bytes}


def _sizes(loops: Loops, dims: Dict[str, Num]) -> dict[str, Num]:
    """Side of a tile in each dim: the trips of all loops over it."""
    return {d: prod((n for name, n in loops if name == d), start=1.0) for d in dims}


def _elements(axes: Sequence[Sequence[str]], size: Dict[str, Num], stride: Num) -> Num:
    """Elements of a tensor's tile; a sliding axis of p positions and a window of r has ``(p - 1) stride + r``."""
    return prod((size[a[0]] if len(a) == 1 else (size[a[0]] - 1.0) * stride + size[a[1]] for a in axes), start=1.0)


def _visits(loops: Loops, relevant: set[str]) -> Num:
    """How often a tile is brought in: once for every trip, but for innermost loops that leave it as it is."""
    out: Num = 1.0
    still: Num = 1.0
    for name, trips in reversed(loops):
        if name in relevant:
            out = out * trips
            still = where(np.asarray(trips) > 1.0, 0.0, still)
        else:
            out = out * where(np.asarray(still) > 0.0, 1.0, trips)
    return out


def _random(rng: np.random.Generator, dims: dict[str, float], names: list[str], units: float, n: int) -> Mapping:
    """``n`` mappings of one random order, their trips log-uniform whole numbers; the outermost loops do the rest."""
    unrolled = tuple(str(d) for d in rng.choice(sorted(dims), 2, replace=False))
    left = {d: np.full(n, float(x)) for d, x in dims.items()}
    free: Num = np.full(n, units)
    spatial_: list[tuple[str, Num]] = []
    for d in unrolled:
        # Mostly all that fits: idle elements rarely pay.
        trips = np.where(rng.random(n) < 0.75, minimum(left[d], free), _up_to(rng, minimum(left[d], free)))
        trips = np.floor(trips)
        spatial_.append((d, trips))
        free, left[d] = np.floor(free / trips), np.asarray(ceil_div(left[d], trips))
    loops: list[Loops] = []
    for _ in names[1:]:
        order = [str(d) for d in rng.permutation(sorted(dims))]
        taken = {d: _up_to(rng, left[d]) for d in order}
        left = {d: np.asarray(ceil_div(left[d], taken[d])) for d in order}
        loops.append(tuple((d, taken[d]) for d in order))
    loops.append(tuple((str(d), left[str(d)]) for d in rng.permutation(sorted(dims))))
    return laid_out(names, loops[::-1], tuple(spatial_))


def _up_to(rng: np.random.Generator, most: Num) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.floor(np.asarray(most) ** rng.random(np.shape(most)) + 1e-9)


def _pick(mapping: Mapping, i: int) -> Mapping:
    def one(loops: Sequence[Loop]) -> tuple[Loop, ...]:
        return tuple(Loop(x.dim, float(np.ravel(x.size)[i]), x.spatial) for x in loops)

    return Mapping(tuple((name, one(loops)) for name, loops in mapping.levels))
