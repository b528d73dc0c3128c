"""Attention: fused (FlashAttention and split-KV decoding) or with the scores written to memory.

Where the kernels of a device were measured, :mod:`tierwise.cost.flash` prices the fused ones with fitted
coefficients; elsewhere they are bounds from the datasheet.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tierwise.core.num import Num, ceil_div, is_array, is_zero, maximum, minimum, num, scalar, where
from tierwise.core.numerics import Names
from tierwise.cost import flash
from tierwise.cost.constants import constant
from tierwise.cost.types import Cost, Fit, Target, either
from tierwise.program.types import Op

# Query rows of one tile of a fused kernel (FlashAttention-2 uses 128), and the fewest rows a matrix engine
# works on at once (the M of one mma instruction, PTX ISA).
_ROWS = constant("attention.rows")
_MMA_ROWS = constant("attention.mma_rows")
# Vector work per score: scale, running maximum, exponential (special function units run at a quarter of
# the rate), running sum: FlashAttention-2, section 3.1.
_SOFTMAX = constant("attention.softmax")
# Share of the exponentials in that work, and results of special functions a clock and unit as a rule.
_EXPONENTIALS, _SPECIAL = constant("attention.exponentials"), constant("attention.special")


def price(op: Op, on: Target) -> Cost:
    """Time of scores, softmax and weighted sum for ``batch`` sequences of ``heads`` heads."""
    fused = np.asarray(op.options.get("flash", True))
    if fused.all():
        return _datasheet(op, on)
    return either(fused, _datasheet(op, on), _unfused(op, on)) if fused.any() else _unfused(op, on)


def calibrated(op: Op, on: Target) -> Cost | None:
    """The same from the coefficients of fused kernels, where they were fitted and run."""
    fused = np.asarray(op.options.get("flash", True))
    fit = fitted(op, on) if fused.any() else None
    if fit is None:
        return None
    cost = _decode(op, on, fit) if op.options.get("phase") == "decode" else _prefill(op, on, fit)
    return cost if fused.all() else either(fused, cost, _unfused(op, on))


def fitted(op: Op, on: Target) -> Fit | None:
    """The coefficients of the op's class: prefill or decode, plain or latent (MLA), by number formats."""
    decode = op.options.get("phase") == "decode"
    latent = not np.array_equal(np.asarray(op.dims["head_dim"]), np.asarray(op.dims["v_dim"]))
    if latent and np.all(np.asarray(op.dims["v_dim"]) == 0):
        return None  # an indexer: scores only
    phase, names = "decode" if decode else "prefill", formats(op)
    if not latent:
        return on.efficiency.fit(f"attention_{phase}", names)
    # Measured as whole modules: the core's own coefficients, without the launches of the module's other kernels.
    plain = np.char.add(np.asarray(names), "-bf16") if is_array(names) else f"{names}-bf16"
    found = on.efficiency.fit(f"mla_{phase}", plain)
    launch = on.device.dispatch.graph + on.memory.latency
    return None if found is None else replace(found, values={**found.values, "launch": launch})


def formats(op: Op) -> Names:
    """The class of number formats: ``bf16``, ``fp8`` (arithmetic in 8 bits), or ``kv8`` (only the cache is)."""
    stored = [o.format.bits for o in op.reads if o.role == "kv"]
    narrow = np.asarray(stored[0] if stored else 16.0) <= 8.0
    eight = np.asarray(op.arithmetic) == "fp8"
    if op.options.get("phase") == "decode":
        eight = eight & False
    out = np.where(eight, "fp8", np.where(narrow, "kv8", "bf16"))
    return out if is_array(out) else str(out)


def chip(op: Op, on: Target) -> flash.Chip:
    """The device as kernels of the op's arithmetic see it."""
    rate, engine = on.rate(op.arithmetic)
    cache = on.device.cache
    near = cache.bandwidth if cache is not None and not is_zero(cache.bandwidth) else on.memory.bandwidth
    return flash.Chip(rate, softmax_rate(on), num(engine.units), on.memory.bandwidth,
                      near, on.cache_capacity, on.rate("fp32", "vector")[0])  # fmt: skip


def softmax_rate(on: Target) -> Num:
    """FLOP/s of the vector engine in softmax: of a device with more special function units than most, as many times
    more as they leave less of the work."""
    vector, engine = on.rate("fp32", "vector")
    return vector / (1.0 - _EXPONENTIALS + _EXPONENTIALS * _SPECIAL / engine.exponentials)


def _prefill(op: Op, on: Target, fit: Fit) -> Cost:
    d = op.dims
    past, window = maximum(d["columns"] - d["q"], 0.0), d.get("window", float("inf"))
    # A program has an op of its own that writes new keys and values to the cache; recorded rows timed it with this one.
    values = fit.values if on.weight_copies else {**fit.values, "write": 0.0}
    time, memory, extra = flash.prefill(chip(op, on), values, d["batch"], d["heads"], d["kv_heads"], d["q"], past,
                                        d["head_dim"], window, d["v_dim"])  # fmt: skip
    # Pairs left out by sparsity, or added where queries see what comes after them.
    time = time * d["kv"] / _causal_pairs(d["q"], past, window)
    return _cost(op, on, fit, time, memory, extra)


def _causal_pairs(q: Num, past: Num, window: Num) -> Num:
    """Positions a query sees on average."""
    ramp = maximum(0.0, minimum(window - past, q))
    flat = where(np.isfinite(np.asarray(window)), (q - ramp) * minimum(window, 1e30), 0.0)
    return (ramp * past + ramp * (ramp + 1.0) / 2.0 + flat) / q


def _decode(op: Op, on: Target, fit: Fit) -> Cost:
    d = op.dims
    seen = d["batch"] * d["kv_heads"] * d["kv"]
    cached = op.bytes_of("kv") / maximum(seen, 1e-9)
    stored = [o.format.bits for o in op.reads if o.role == "kv"]
    narrow = where(np.asarray(stored[0] if stored else 16.0) <= 8.0, 1.0, 0.0)
    values = fit.values if on.weight_copies else {**fit.values, "warm": 0.0}
    window = d.get("window", float("inf"))
    context = where(np.isfinite(np.asarray(window)), maximum(d["columns"], d["kv"]), d["kv"])
    time, memory, extra = flash.decode(chip(op, on), values, d["batch"], d["heads"], d["kv_heads"], context,
                                       d["head_dim"], window, cached, narrow, d["v_dim"], d["q"])  # fmt: skip
    return _cost(op, on, fit, time, memory, extra, flash.kept(chip(op, on), op.bytes_of("kv"), values["warm"]))


def _cost(op: Op, on: Target, fit: Fit, time: Num, memory: Num, extra: Num, warm: Num = 0.0) -> Cost:
    """Both resources scaled so that the larger is their smooth maximum; of the cache a share is ``warm``."""
    both = flash.smooth_maximum(time, memory)
    scale = both / maximum(maximum(time, memory), 1e-30)
    parts = {"compute": time * scale, on.memory.name: memory * scale, **on.launches(on.device.dispatch.eager)}
    moved = _memory(op, on) - warm * op.bytes_of("kv")
    # Beside the launch: merging what splits found, and passes over operands that were fitted.
    launch = fit["launch"]
    serial = {"dispatch": launch, "unexplained": maximum(extra - launch, 0.0)}
    return Cost(parts, serial, op.flops, {on.memory.name: moved}, fit.basis, fit.interval)


def _datasheet(op: Op, on: Target) -> Cost:
    d = op.dims
    rate, engine = on.rate(op.arithmetic)
    rate = rate * on.efficiency.of("compute", op.kind)
    vector = softmax_rate(on) * on.efficiency.of("compute", "vector")
    rows = d["q"] * (d["heads"] / d["kv_heads"])
    # A tile takes its time however many of its rows are there.
    tile = where(rows > _ROWS, _ROWS, _MMA_ROWS if engine.kind == "matrix" else 1.0)
    padding = ceil_div(rows, tile) * tile / rows
    flops = op.flops * padding
    scores = d["batch"] * d["heads"] * d["q"] * d["kv"] * padding
    blocks = d["batch"] * d["kv_heads"] * ceil_div(rows, _ROWS)
    # Too few blocks are cut along the context (split-KV), so only full waves suffer quantization.
    units = num(engine.units)
    fill = where(blocks >= units, ceil_div(blocks, units) * units / blocks, 1.0 + 0.0 * blocks)
    cached = _through_cache(op, blocks)
    moved = _memory(op, on)
    parts = {
        "compute": flops / rate * fill,
        "softmax": scores * _SOFTMAX / vector * fill,
        on.memory.name: on.memory_time(moved, op.kind),
        on.cache_name: on.cache_time(cached, op.kind),
    }
    return on.cost(op.kind, parts, op.flops, {on.memory.name: moved, on.cache_name: cached})


def _through_cache(op: Op, blocks: Num) -> Num:
    """Each block of query rows streams the keys and values of its head once."""
    d = op.dims
    kv = op.bytes_of("kv")
    per_token = kv / maximum(d["batch"] * d["kv"], 1.0)
    act = op.bytes_of("act")
    return maximum(kv, blocks / maximum(d["kv_heads"], 1.0) * d["kv"] * per_token) + act


def _memory(op: Op, on: Target) -> Num:
    acts = op.bytes_of("act")
    return op.bytes - where(acts <= on.cache_capacity, acts, 0.0 * acts)


def _unfused(op: Op, on: Target) -> Cost:
    """Three kernels with the score matrix between them: written, read and rewritten by softmax, read again."""
    d = op.dims
    rate = scalar(on.rate(op.arithmetic)[0]) * on.efficiency.of("compute", op.kind)
    vector = on.rate("fp32", "vector")[0] * on.efficiency.of("compute", "vector")
    scores = d["batch"] * d["heads"] * d["q"] * d["columns"]
    dense = 2.0 * scores * (d["head_dim"] + d["v_dim"])
    element = op.writes[0].format.bytes if op.writes else 2.0
    # Written by the product, read and rewritten by the softmax, read again; a framework's lines add more.
    between = scores * (4.0 * element if on.framework is None else on.framework.scores)
    spilled = where(scores * element <= on.cache_capacity, 0.0 * between, between)
    moved = _memory(op, on) + spilled
    parts = {
        "compute": dense / rate,
        "softmax": scores * _SOFTMAX / vector,
        # Of all passes over the scores every other one writes them.
        on.memory.name: on.memory_time(moved, op.kind) + on.slower_writes(on.memory, spilled / 2.0, "memory", op.kind),
        on.cache_name: on.cache_time(moved + between, op.kind),
    }
    return on.cost(op.kind, parts, dense, {on.memory.name: moved, on.cache_name: moved + between}, kernels=3.0)
