"""How long fused attention kernels take: tiles of queries in prefill, the cache split over units in decode.

Counts follow the kernels' own structure; what a kernel reaches comes from fitted coefficients (``k``), fractions of
datasheet rates unless a docstring says seconds. All sizes may be arrays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tierwise.core.num import Num, ceil_div, maximum, minimum, scalar, where
from tierwise.cost.constants import constant

# Positions of one step along the keys, and the query rows one block of a decode kernel takes at most
# (FlashAttention-2/3, FlashInfer and TensorRT-LLM use 64 to 128 of each).
STEP = constant("flash.step")
_HEADS = constant("flash.heads")
# Fewest key positions of a piece where a prefill kernel cuts its tiles along the keys (FlashInfer's planner).
_LEAST = constant("flash.least")
# Element width that coefficients with a power law in the width refer to.
_WIDTH = 128.0


@dataclass(frozen=True)
class Chip:
    """The datasheet as kernels meet it: FLOP/s of the matrix engine, of the vector engine in softmax and in all else
    (``plain``), units, bytes/s and bytes."""

    rate: Num
    vector: Num
    units: Num
    memory: Num
    cache: Num
    capacity: Num
    plain: Num


def smooth_maximum(a: Num, b: Num) -> Num:
    """``(a^4 + b^4)^(1/4)``: two resources that overlap, except where they are about equal."""
    a2, b2 = np.asarray(a) * a, np.asarray(b) * b
    return scalar(np.sqrt(np.sqrt(a2 * a2 + b2 * b2)))


def prefill(
    chip: Chip,
    k: Mapping[str, Num],
    batch: Num,
    heads: Num,
    kv_heads: Num,
    q: Num,
    past: Num,
    width: Num,
    window: Num,
    v_width: Num | None = None,
) -> tuple[Num, Num, Num]:
    """(seconds of the tiles, seconds of the memory, seconds on top) of a prefill or chunk of ``q`` tokens.

    Query rows are cut into tiles, one per unit at a time; a tile walks the keys it may see in steps, paying matrix
    work and softmax per pair and a start-up. Units share tiles evenly up to a tail, and no kernel ends before its
    longest tile. Coefficients: ``rows`` of a tile, ``packed`` (1: the query heads of a group share a tile, 2: only
    where each has one query), ``halved`` (1: half the rows for heads of 192 and wider), ``cut`` (1: too few tiles
    are cut along the keys), ``compute`` with power ``width_power`` and ``tuned`` (rate at a width of 128 over that
    power law), ``softmax`` (vector operations a pair), ``start`` (seconds a tile) with power ``start_power``,
    ``alone`` (rate of a single tile on its unit), ``tail``, ``unskipped`` (share of the pairs outside a window that
    is computed all the same), ``memory``, ``cache`` (fractions), ``warm`` (share of the last cache that keeps
    operands from their producer), ``move`` (further passes over the operands), ``launch`` (seconds), ``write`` (see
    :func:`cache_write`).
    """
    group = heads / kv_heads
    rows = k["rows"] * where(np.asarray(width) >= 192.0, 1.0 - 0.5 * k["halved"], 1.0)
    pack = np.asarray(k["packed"])
    packed = where((pack == 1) | ((pack == 2) & (np.asarray(q) <= 1.0)), 1.0, 0.0)
    tall = where(packed > 0, q * group, q)
    streams = batch * where(packed > 0, kv_heads, heads)
    per = where(packed > 0, maximum(rows / group, 1.0), rows)
    tiles = ceil_div(tall, rows)
    seen, longest = _extents(tiles, per, q, past, window)
    if not np.all(np.isinf(np.asarray(window))):
        all_seen, all_longest = _extents(tiles, per, q, past, float("inf"))
        seen = seen + k["unskipped"] * (all_seen - seen)
        longest = longest + k["unskipped"] * (all_longest - longest)
    parallel = maximum(chip.units / (streams * tiles), 1.0)
    longest = where(np.asarray(k["cut"]) > 0, maximum(longest / parallel, minimum(longest, _LEAST)), longest)
    reach = k["compute"] * (width / _WIDTH) ** k["width_power"] * where(np.asarray(width) == _WIDTH, k["tuned"], 1.0)
    both = width + (width if v_width is None else v_width)
    pair = rows * (2.0 * both * chip.units / (chip.rate * reach) + k["softmax"] * chip.units / chip.vector)
    start = k["start"] * (width / _WIDTH) ** k["start_power"]
    last = longest * pair + start
    busy = streams * (seen * pair + tiles * start) / chip.units
    time = maximum(last / k["alone"], busy) + k["tail"] * minimum(last, busy)
    moved = 2.0 * batch * both * (q * (heads + kv_heads) + past * kv_heads)
    bytes_time = warm_read(chip, moved, k["warm"], k["cache"], k["memory"])
    written = cache_write(chip, k, batch * q * kv_heads * both)
    return time, bytes_time, k["launch"] + k["move"] * bytes_time + written


def cache_write(chip: Chip, k: Mapping[str, Num], elements: Num) -> Num:
    """Seconds beyond its launch of the kernel that copies new keys and values to their pages of the cache, where one
    does (vLLM's reshape_and_cache, SGLang's set_kv_buffer): blocks of a token, bound by their units: ``write`` vector
    operations an element. 0 for classes without ``write``, whose other coefficients hold it, and for those that
    were recorded without the kernel, whose ``write`` is 0.
    """
    return k.get("write", 0.0) * elements / chip.plain


def _extents(tiles: Num, per: Num, q: Num, past: Num, window: Num) -> tuple[Num, Num]:
    """(key positions all tiles of one stream walk, those of the longest), ``per`` tokens to a tile."""
    reach = minimum(window + per, past + q)
    longest = ceil_div(reach, STEP) * STEP
    # Tile i ends at past + (i + 1) per: a ramp until the window is full, then flat.
    ramp = maximum(minimum(np.floor((window - past) / per), tiles - 1.0), 0.0)
    total = ramp * past + per * ramp * (ramp + 1.0) / 2.0 + (tiles - ramp) * reach
    return where(np.asarray(tiles) <= 1.0, longest, total + tiles * STEP / 2.0), longest


def decode(
    chip: Chip,
    k: Mapping[str, Num],
    batch: Num,
    heads: Num,
    kv_heads: Num,
    context: Num,
    width: Num,
    window: Num,
    token: Num,
    narrow: Num,
    v_width: Num | None = None,
    queries: Num = 1.0,
) -> tuple[Num, Num, Num]:
    """(seconds of the blocks, seconds of the memory, seconds on top) of ``queries`` query tokens a sequence, one but
    where drafts are verified.

    ``token`` bytes are cached for a position and KV head, ``narrow`` is 1 where they must be widened.
    A block reads one KV head's keys and values, for all query heads of its group and all their tokens at once; too
    few blocks are cut along the context (split-KV) and merged after. A unit alone cannot draw more than ``unit`` of
    its share of the bandwidth, and a cache read again and again stays in the last cache while it fits. Coefficients:
    ``memory`` and ``cache`` (fractions of the bandwidths), ``warm`` (share of the last cache that stays warm),
    ``unit``, ``occupancy`` (blocks a unit that splitting aims at), ``chunk`` (fewest positions of a split; 1e9: never
    split), ``start`` (seconds a block) with power ``start_power``, ``merge`` (seconds) and ``merge_bytes``, ``rows``
    (query rows a group is padded to), ``compute``, ``softmax``, ``dequant`` (extra time a narrow element), ``wave``
    (how far a part-filled last wave counts), ``unskipped``, ``move`` (passes over queries and outputs), ``launch``
    (seconds), and ``mode``, when kernels take query heads one by one (``apart``), their steps and starts longer by
    ``single`` and ``single_start``:

    - 0: never; 3: groups of more than 32; 4: also groups of one (TensorRT-LLM's masked multi-head attention);
    - 1: as 4, and where splits of 128 positions would fill less than a quarter of the units;
    - 2: groups of one and windows, then never split; others pay ``regroup`` seconds to copy queries and outputs
      into the kernel's order unless that order is already theirs (FlashAttention-2).
    """
    seen = minimum(context, window)
    seen = seen + k["unskipped"] * (context - seen)
    group, mode = np.asarray(heads / kv_heads), np.asarray(k["mode"])
    one, many, windowed = group <= 1.0, group > 32.0, np.isfinite(np.asarray(window))
    apart = (mode == 2) & (one | windowed)
    if np.any(mode == 1):
        few = batch * kv_heads * maximum(np.floor(seen / 128.0), 1.0) * 4.0 < chip.units
        apart = apart | ((mode == 1) & (one | many | np.asarray(few)))
    apart = apart | ((mode == 3) & many) | ((mode == 4) & (one | many))
    per = maximum(k["rows"], _HEADS)
    tall = scalar(group) * queries
    blocks_heads = where(apart, heads * ceil_div(queries, per), kv_heads * ceil_div(tall, per))
    items = batch * blocks_heads
    total = batch * kv_heads * seen * token
    splits = maximum(minimum(chip.units * k["occupancy"] / items, ceil_div(seen, k["chunk"])), 1.0)
    splits = where(apart & (mode == 2), 1.0, splits)
    blocks = items * splits
    whole = ceil_div(items, chip.units) * chip.units / items
    uneven = where(np.asarray(splits) <= 1.0, 1.0 + (minimum(whole, 2.0) - 1.0) * k["wave"], 1.0)
    waves = maximum(blocks / chip.units, 1.0) * uneven
    alone = token * chip.units / (chip.memory * k["unit"])
    padded = minimum(ceil_div(tall, k["rows"]) * k["rows"], per)
    pair = 2.0 * (width + (width if v_width is None else v_width)) * chip.units / (chip.rate * k["compute"])
    work = padded * (pair + k["softmax"] * chip.units / chip.vector)
    step = where(apart, alone * k["single"], maximum(alone, work)) * (1.0 + narrow * k["dequant"])
    start = k["start"] * (width / _WIDTH) ** k["start_power"] * where(apart, k["single_start"], 1.0)
    time = (start + seen / splits * step) * waves
    memory = warm_read(chip, total, k["warm"], k["cache"], k["memory"])
    merged = items * (heads * queries / blocks_heads) * splits * width * 8.0 / chip.cache
    # Between one piece and two only some heads are cut.
    split = minimum(splits - 1.0, 1.0) * (k["merge"] + k["merge_bytes"] * merged)
    copied = (mode == 2) & ~apart & (np.asarray(kv_heads) > 1.0) & (np.asarray(batch) > 1.0)
    regroup = where(copied, k["regroup"], 0.0)
    return time, memory, k["launch"] + split + regroup + k["move"] * batch * queries * heads * width * 4.0 / chip.cache


def warm_read(chip: Chip, size: Num, warm: Num, cache: Num, memory: Num) -> Num:
    """Seconds to read ``size`` bytes again and again: from the last cache while they fit ``warm`` of it, from the
    memory once they are twice that, a mixture between."""
    hot = kept(chip, size, warm)
    return size * (hot / (chip.cache * cache) + (1.0 - hot) / (chip.memory * memory))


def kept(chip: Chip, size: Num, warm: Num) -> Num:
    """Share of ``size`` bytes that the last cache still holds when they are read again: all while they fit ``warm`` of
    it, none once they are twice that."""
    return minimum(maximum(2.0 - size / maximum(chip.capacity * warm, 1.0), 0.0), 1.0)
