"""Whole latent-attention modules of DeepSeek-V3: projections, absorption or expansion, attention, output.

``latency`` covers every matrix product of the module: its floor at one token is the time to read their weights.
Kernels named in ``ABSORBED`` attend in the latent space in prefill too. Where :mod:`tierwise.measure.recordings` says
that norms and rotary embeddings ran as chains of plain kernels, these count besides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from tierwise.core.errors import UnknownName
from tierwise.core.num import Num, ceil_div, where
from tierwise.core.numerics import fmt
from tierwise.cost import Cost, Target, flash
from tierwise.cost.attention import chip
from tierwise.measure.columns import COUNT, SIZE
from tierwise.measure.recordings import recorded
from tierwise.measure.rows.attention import join, names
from tierwise.program.types import Op

COLUMNS = frozenset({"batch_size", "isl", "step", "num_heads", "kv_cache_dtype", "mla_dtype", "gemm_type", "model",
                     "kernel_source"})  # fmt: skip
DTYPE = "gemm_type"
BOUNDS = {"batch_size": SIZE, "isl": SIZE, "num_heads": SIZE, "step": COUNT}

# DeepSeek-V3's config.json.
HIDDEN, Q_RANK, RANK, ROPE, NOPE, VALUE = 7168.0, 1536.0, 512.0, 64.0, 128.0, 128.0
ABSORBED = ("FLASHMLA", "FLASH_ATTN_MLA", "FLASHINFER_MLA", "TRITON_MLA", "CUTLASS_MLA")
FORMATS = {"bfloat16": ("bf16", "bf16"), "fp8_block": ("fp8-block", "fp8"), "nvfp4": ("nvfp4", "fp4"),
           "fp8": ("fp8", "fp8")}  # fmt: skip

# Threads a unit holds at most (CUDA C++ Programming Guide, compute capabilities 8.0, 9.0 and 10.0; 1536 in cards, whose
# memories are slower than either).
_THREADS = 2048.0

Rows = Mapping[str, np.ndarray]


def decoding(rows: Rows) -> np.ndarray:
    """Which rows are decode steps."""
    return np.asarray((np.asarray(rows["isl"]) == 1) & (np.asarray(rows["step"]) > 0))


def classes(rows: Rows) -> np.ndarray:
    """The class of each row: format of the products, and of attention (``fp8``) or its cache (``kv8``)."""
    known = np.asarray([FORMATS.get(str(g), (str(g),))[0] for g in rows["gemm_type"]])
    cache = np.where(names(rows["mla_dtype"]) == "fp8", "fp8", np.where(names(rows["kv_cache_dtype"]) == "fp8",
                                                                        "kv8", "bf16"))  # fmt: skip
    return np.char.add(np.char.add(cache, "-"), known)


def module(rows: Rows, on: Target, k: Mapping[str, Num], decode: bool) -> Num:
    """Seconds of modules of one phase with given coefficients: those of attention, and ``gemm_compute``,
    ``gemm_memory`` (fractions), ``gemm_move`` (passes over operands), ``between`` (passes of the kernels between
    the products), ``absorbed`` (attention in the latent space over the plain rate)."""
    gemm = str(rows["gemm_type"][0])
    if gemm not in FORMATS:
        raise UnknownName("gemm_type", gemm, list(FORMATS))
    batch, q, past, heads = (np.asarray(rows[c], dtype=float) for c in ("batch_size", "isl", "step", "num_heads"))
    latent = np.isin(np.asarray(rows["kernel_source"], dtype=str), ABSORBED) | decode
    arithmetic = names(rows["mla_dtype"])
    blank = Op("attention", "core", "attn", {}, 0.0, (), (), arithmetic)
    device = chip(blank, on)
    tokens = batch * q
    products = _products(on, k, tokens, heads, latent, FORMATS[gemm])
    products = products + where(recorded(rows, "mla", "unfused"), chains(on, device, tokens, heads), 0.0)
    element = np.where(names(rows["kv_cache_dtype"]) == "fp8", 1.0, 2.0)
    inf = float("inf")
    if decode:
        time, memory, extra = flash.decode(device, k, batch, heads, 1.0, past + 1.0, RANK + ROPE, inf,
                                           (RANK + ROPE) * element, 2.0 - element, RANK)  # fmt: skip
        return products + flash.smooth_maximum(time, memory) + extra
    reach = {**k, "packed": where(latent, 1.0, 0.0),
             "compute": k["compute"] * where(latent, k["absorbed"], 1.0)}  # fmt: skip
    time, memory, extra = flash.prefill(
        device, reach, batch, heads, where(latent, 1.0, heads), q, past, where(latent, RANK + ROPE, NOPE + ROPE), inf,
        where(latent, RANK, VALUE),
    )  # fmt: skip
    return products + flash.smooth_maximum(time, memory) + extra


def chains(on: Target, device: flash.Chip, tokens: Num, heads: Num) -> Num:
    """Seconds that norms and rotary embeddings take as chains of PyTorch's kernels beyond the fused ones.

    A norm widens, squares, averages, adds, takes the root, multiplies, narrows and multiplies: 8 kernels and 36 bytes
    an element. Rotating gathers angles and repeats cosines and sines, then for queries and keys negates, stacks,
    multiplies twice and adds (20 bytes an element), and writes queries back (4). Three kernels are what it takes fused.
    The last cache holds what one kernel hands to the next, of 8 bytes an element, while that fits.

    A kernel waits for its values and, before the next starts, for their storing. Its threads have an element of 4 bytes
    each on the way, one trip after the other: all that the units hold move 3.5 TB/s on the B200 (Little's law), below
    half of its bandwidth, and more than their devices' on the L40S and the RTX PRO 6000.
    """
    kernels = 2.0 * 8.0 + 3.0 + 2.0 * 5.0 + 1.0 - 3.0
    normed, rotated = tokens * (Q_RANK + RANK), tokens * ROPE * (heads + 1.0)
    time: Num = 0.0
    for elements, each in ((normed, 36.0), (rotated, 24.0)):
        handed, passed = 8.0 * elements, each / 8.0
        waits = handed * on.memory.latency / (device.units * _THREADS * 4.0)
        time = time + passed * flash.smooth_maximum(flash.warm_read(device, handed, 1.0, 1.0, 1.0), waits)
    return kernels * (on.device.dispatch.graph + 2.0 * on.memory.latency) + time


def _products(on: Target, k: Mapping[str, Num], t: Num, h: Num, latent: np.ndarray, formats: tuple[str, str]) -> Num:
    """Seconds of the module's matrix products and of what runs between them."""
    rate, engine = on.rate(formats[1])
    plain, _ = on.rate("bf16")
    units, width = float(engine.units), fmt(formats[0]).bytes

    def one(n: Num, depth: Num, batch: Num = 1.0, rate: Num = rate, width: Num = width) -> Num:
        tiles = ceil_div(t, 128.0) * ceil_div(n, 128.0) * batch
        uneven = where(tiles < units, 1.0, ceil_div(tiles, units) * units / tiles)
        rows = where(np.asarray(t) < 128.0, ceil_div(t, 64.0) * 64.0, ceil_div(t, 128.0) * 128.0)
        compute = 2.0 * rows * n * depth * batch / (rate * k["gemm_compute"]) * uneven
        read = n * depth * batch * width / k["gemm_memory"] + 2.0 * (t * depth + t * n) * batch * k["gemm_move"]
        return flash.smooth_maximum(compute, read / on.memory.bandwidth)

    total = one(Q_RANK + RANK + ROPE, HIDDEN) + one(h * (NOPE + ROPE), Q_RANK) + one(HIDDEN, h * VALUE)
    absorb = one(RANK, NOPE, h, plain, 2.0) + one(VALUE, RANK, h, plain, 2.0)
    total = total + where(latent, absorb, one(h * (NOPE + VALUE), RANK))
    between = t * (HIDDEN + 2.0 * (Q_RANK + RANK) + 2.0 * h * (NOPE + ROPE + VALUE)) * 2.0
    return total + k["between"] * between / on.memory.bandwidth


def cost(rows: Rows, on: Target) -> Cost:
    """The price of the rows as they were timed: in a loop, caches warm."""
    on = replace(on, weight_copies=1.0)
    decode, kinds = decoding(rows), classes(rows)
    parts, masks = {}, {}
    for phase, here in (("decode", decode), ("prefill", ~decode)):
        for kind in np.unique(kinds[here]):
            mask = here & (kinds == kind)
            fit = on.efficiency.fit(f"mla_{phase}", str(kind))
            if fit is None:
                raise UnknownName("class of latent attention", str(kind), [])
            time = module({c: v[mask] for c, v in rows.items()}, on, fit.values, phase == "decode")
            masks[f"{phase}-{kind}"] = mask
            parts[f"{phase}-{kind}"] = Cost({"kernel": time}, {}, 0.0, {}, fit.basis, fit.interval)
    return join(parts, masks)
