"""Attention of decoding rows beside a prefill chunk, where one kernel made for chunks serves both.

FlashAttention 2 packs a group's query heads into one tile, and cuts the cache over units, only in calls whose every
sequence has one query and no window (``mha_varlen_fwd``: ``max_seqlen_q == 1``). In any other call over a paged cache
each (sequence, query head) takes a tile of its own, 64 rows with one alive at any head width
(``run_mha_fwd_splitkv_dispatch``), computed in full and never cut along the keys. Blocks go out over sequences first
and heads last, so by the time the next head of a group comes to a sequence its keys and values have left the last
cache, unless those of all sequences fit or the heads of a group are in flight together.

Llama 3.1 8B on an A100, 256 sequences of 1448 tokens, a layer: 64 rows of 256 x 32 heads x 1448 keys x 4 x 128 FLOP
are 0.39 TFLOP, 1.7 ms at 0.72 of 312 TFLOP/s; one KV head of all sequences is 190 MB against 40 MiB of cache, so every
query head reads its own, 6.1 GB, 3.9 ms at 0.76 of 2039 GB/s. The memory decides, and the rows take 4 times as long as
in a step that only decodes (1.0 ms): about as many times as a group has heads, once the cache does not hold them.

Measured calls that run this kernel (AIConfigurator's data of vLLM, decode): groups of one on an A100, off by a median
5 %; windows not yet full on an L40S, by a median 10 %, there 2.2 to 4.9 times as long as packed ones where one KV head
of all sequences exceeds the cache. No measurement of mixed steps on an A100 was found. vLLM's developers describe the
same (pull request 58013, 2026-09, open: two calls in place of one); for an engine that has it,
``shared_attention_families`` of its ``engine.yaml`` is to be empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tierwise.core.num import Num, maximum, minimum, where
from tierwise.cost import Target, attention, flash, price
from tierwise.program.program import Program
from tierwise.program.types import Op

# Key positions of a step of the kernel, by the widest head it holds for (run_mha_fwd_splitkv_dispatch).
_COLUMNS = ((64.0, 256.0), (128.0, 128.0), (float("inf"), 64.0))


def beside_chunks(decoding: Program, chunks: Program, target: Target, tile: int, factor: float) -> Any:
    """What decoding rows take beside a chunk beyond what they take alone, all layers: seconds, and of them those of
    arithmetic, of memory and of links, (..., 4); 0 where no op differs.

    Args:
        decoding, chunks: one pass of sequences with one new token each, lowered as decode and as prefill.
        tile: query rows of the kernel's tile.
        factor: on the time of every op.
    """
    rows = {(segment.name, op.name): op for segment, op in chunks.walk() if op.kind == "attention"}
    out: Any = 0.0
    for segment, op in decoding.walk():
        row = rows.get((segment.name, op.name))
        found = None if row is None else _seconds(op, row, target, tile)
        if found is None:
            continue
        alone = price(op, target)
        memory = alone.overlapped.get(target.memory.name, 0.0)
        before = (alone.time, alone.overlapped.get("compute", 0.0), memory)
        more = [np.asarray(maximum(x - y, 0.0)) for x, y in zip(found, before, strict=True)]
        # Kernels that write their scores serve rows and chunks alike.
        fused = np.where(np.asarray(op.options.get("flash", True), dtype=bool), 1.0, 0.0)
        more = [fused * np.minimum(x, more[0]) for x in more]
        out = out + segment.repeat * factor * np.stack([*more, np.zeros_like(more[0])], axis=-1)
    return out


def _seconds(op: Op, row: Op, target: Target, tile: int) -> tuple[Num, Num, Num] | None:
    """As :func:`rows_in_tiles`, of an op lowered as decode (``op``) and as prefill (``row``); None where another kernel
    serves it or it was not measured.

    Engines bring kernels of their own for latent attention and for caches in 8 bits, which tell rows from chunks;
    windows and groups of one are never packed, so they cost beside a chunk what they cost alone.
    """
    d = op.dims
    windowed = np.any(np.isfinite(np.asarray(d.get("window", float("inf")))))
    latent = not np.array_equal(np.asarray(d["head_dim"]), np.asarray(d["v_dim"]))
    fused = np.asarray(op.options.get("flash", True)).any()
    if not fused or windowed or latent or np.any(np.asarray(attention.formats(op)) != "bf16"):
        return None
    fits = attention.fitted(op, target), attention.fitted(row, target)
    if fits[0] is None or fits[1] is None:
        return None
    scratch = next((t.capacity for t in target.device.tiers if t.kind == "scratchpad"), 0.0)
    return rows_in_tiles(attention.chip(op, target), fits[0].values, fits[1].values, tile, scratch, d["batch"] * d["q"],
                         d["heads"], d["kv_heads"], d["kv"], d["head_dim"])  # fmt: skip


def rows_in_tiles(
    chip: flash.Chip,
    decode: Mapping[str, Num],
    prefill: Mapping[str, Num],
    tile: int,
    scratch: float,
    batch: Num,
    heads: Num,
    kv_heads: Num,
    context: Num,
    width: Num,
) -> tuple[Num, Num, Num]:
    """(seconds, those of arithmetic, those of memory) of one query row for each of ``batch`` sequences and ``heads``
    heads of ``width``, each in its own tile.

    Args:
        decode, prefill: coefficients of the kernel's two classes: what it reaches of the memory and keeps in the last
            cache, and what it reaches in whole tiles. See :mod:`tierwise.cost.flash`.
        scratch: bytes of scratchpad, all units: how many tiles a unit holds at once.
    """
    values = {**prefill, "rows": float(tile), "packed": 0.0, "halved": 0.0, "cut": 0.0}
    whole = float("inf")
    # The seconds of memory are what chunks' tiles reach where those of a group share what they read.
    _, once, _ = flash.prefill(chip, values, batch, heads, kv_heads, 1.0, context - 1.0, width, whole)
    # Keys are walked in whole steps, and contexts of sequences differ: on average half a step more than there is.
    middle = context + 0.5 * flash.STEP
    below = maximum(np.floor(middle / flash.STEP) * flash.STEP, flash.STEP)
    low, high = (flash.prefill(chip, values, batch, heads, kv_heads, 1.0, keys - 1.0, width, whole)[0]
                 for keys in (below, below + flash.STEP))  # fmt: skip
    time = low + (high - low) * minimum(maximum((middle - below) / flash.STEP, 0.0), 1.0)
    # Heads of a group as if each had a cache of its own: what was measured of groups of one holds for them.
    apart, _, extra = flash.decode(chip, {**decode, "mode": 2.0}, batch, heads, heads, context, width, whole,
                                   4.0 * width, 0.0)  # fmt: skip
    columns = next(n for widest, n in _COLUMNS if np.all(np.asarray(width) <= widest))
    held = maximum(np.floor(scratch / chip.units / (2.0 * width * (tile + 2.0 * columns))), 1.0)
    group = heads / kv_heads
    together = minimum(maximum(chip.units * held / batch, 1.0), group)
    head = 4.0 * batch * context * width
    # Read again by each head of a group that is not in flight with the one before, unless the cache still holds it.
    kept = chip.capacity * decode["warm"]
    hot = minimum(maximum(2.0 - head / maximum(kept, 1.0), 0.0), 1.0)
    loads = 1.0 + (group / together - 1.0) * (1.0 - hot)
    far = chip.memory * decode["memory"]
    memory = maximum(head * kv_heads * loads / far, where(group > 1.0, once, 0.0))
    work = maximum(time, apart)
    return flash.smooth_maximum(work, memory) + extra, work, memory
