"""Softmax attention: ``isl`` new tokens a sequence after ``step`` cached ones; one new token is a decode step.

A prefill without cached tokens and of one token counts as prefill, which is how it was recorded. ``latency`` is the
core alone, timed in a loop over the same buffers, and what writes the new keys and values to the cache, except where
:mod:`tierwise.measure.recordings` says that it was left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from tierwise.core.errors import BadField
from tierwise.core.num import maximum
from tierwise.core.numerics import fmt
from tierwise.cost import Cost, Target, price
from tierwise.measure.columns import COUNT, SIZE
from tierwise.measure.recordings import recorded, typical
from tierwise.program.types import Op, Operand

COLUMNS = frozenset({"batch_size", "isl", "step", "num_heads", "num_key_value_heads", "head_dim", "kv_cache_dtype"})
DTYPE = "kv_cache_dtype"
BOUNDS = dict.fromkeys(sorted(COLUMNS - {"step", DTYPE}), SIZE) | {"step": COUNT, "window_size": COUNT}

# Trips to memory, one after the other, of the kernel that writes the cache.
_TRIPS = 3.0

Rows = Mapping[str, np.ndarray]


def decoding(rows: Rows) -> np.ndarray:
    """Which rows are decode steps."""
    return np.asarray((np.asarray(rows["isl"]) == 1) & (np.asarray(rows["step"]) > 0))


def op(rows: Rows, phase: str) -> Op:
    """One op whose sizes are the arrays of the rows, all of one phase."""
    number = {c: np.asarray(rows[c], dtype=float) for c in sorted(COLUMNS - {DTYPE})}
    batch, q, past, heads, kv_heads, width = (
        number[c] for c in ("batch_size", "isl", "step", "num_heads", "num_key_value_heads", "head_dim")
    )
    window = np.asarray(rows["window_size"], dtype=float) if "window_size" in rows else np.zeros_like(q)
    window = np.where(window > 0, window, np.inf)
    ramp = np.clip(window - past, 0.0, q)
    flat = np.where(np.isfinite(window), (q - ramp) * np.minimum(window, 1e30), 0.0)
    seen = (ramp * past + ramp * (ramp + 1.0) / 2.0 + flat) / q
    dims = {"batch": batch, "heads": heads, "kv_heads": kv_heads, "q": q, "kv": seen, "head_dim": width,
            "v_dim": width, "columns": past + q, "window": window}  # fmt: skip
    stored = fmt(names(rows["kv_cache_dtype"]))
    kv = Operand("kv", "kv", 2.0 * batch * kv_heads * seen * width, stored)
    acts = Operand("q", "act", batch * q * heads * width, fmt("bf16"))
    arithmetic = names(rows["attn_dtype"]) if phase == "prefill" and "attn_dtype" in rows else "bf16"
    flops = 4.0 * batch * heads * q * seen * width
    return Op("attention", "core", "attn", dims, flops, (acts, kv), (acts,), arithmetic, options={"phase": phase})


def names(column: np.ndarray) -> np.ndarray:
    """Format names from recorded dtype names."""
    text = np.asarray(column, dtype=str)
    return np.where(text == "bfloat16", "bf16", np.where(text == "float16", "fp16", text))


def cost(rows: Rows, on: Target) -> Cost:
    """The price of the rows as they were timed: in a loop, caches warm."""
    decode, unwritten = decoding(rows), recorded(rows, "attention", "unwritten")
    parts, masks = {}, {}
    for phase, here in (("decode", decode), ("prefill", ~decode)):
        for apart in (False, True):
            mask = here & (unwritten == apart)
            if np.any(mask):
                part = {c: v[mask] for c, v in rows.items()}
                parts[f"{phase}-{apart}"] = price(op(part, phase), as_recorded(replace(on, weight_copies=1.0), apart))
                masks[f"{phase}-{apart}"] = mask
    return join(parts, masks)


def as_recorded(on: Target, unwritten: bool) -> Target:
    """The target with classes for rows that were timed with or without the kernel that writes the cache, whichever way
    a class was (``write`` is 0 in one that was recorded without): its launch, which waits for a slot, for values and
    for their storing, and its work where that is known."""
    kernel = on.device.dispatch.graph + _TRIPS * on.memory.latency
    fits = dict(on.efficiency.fits)
    for key, fit in fits.items():
        if key[0].startswith("attention_"):
            k, timed = fit.values, bool(np.any(np.asarray(fit.values.get("write", 1.0)) != 0.0))
            if unwritten and timed:
                write, launch = 0.0, maximum(k["launch"] - kernel, 0.0)
            elif not unwritten and not timed:
                write, launch = typical("write", key[1]), k["launch"] + kernel
            else:
                continue
            fits[key] = replace(fit, values={**k, "write": write, "launch": launch})
    return replace(on, efficiency=replace(on.efficiency, fits=fits))


def join(parts: Mapping[str, Cost], masks: Mapping[str, np.ndarray]) -> Cost:
    """One cost of rows priced apart: seconds and intervals in the rows' order."""
    count = len(next(iter(masks.values())))
    time, low, high, flops = (np.empty(count) for _ in range(4))
    for name, part in parts.items():
        mask = masks[name]
        for column, value in ((time, part.time), (low, part.interval[0]), (high, part.interval[1]),
                              (flops, part.flops)):  # fmt: skip
            column[mask] = value
    bases = sorted({p.basis for p in parts.values()}, key=("calibrated", "transferred", "datasheet").index)
    return Cost({"kernel": time}, {}, flops, {}, bases[-1], (low, high))


def check(rows: Rows, wanted: frozenset[str], kind: str) -> None:
    """Raise BadField when columns are missing."""
    missing = sorted(wanted - set(rows))
    if missing:
        raise BadField(kind, "columns", ", ".join(rows), "also " + ", ".join(missing))
