"""General matrix multiplication: tiles dealt to units in waves, operands through cache and memory."""

from __future__ import annotations

import numpy as np

from tierwise.core.num import Num, ceil_div, is_array, maximum, minimum, num, where
from tierwise.core.numerics import Names
from tierwise.cost.constants import constant
from tierwise.cost.gemm import kernel, quantize
from tierwise.cost.types import Cost, Fit, Target, sparse
from tierwise.machines.types import Engine
from tierwise.program.types import Op

# Cutting K further than this leaves too few steps to fill a unit's multiply pipeline (CUTLASS mainloops
# step through K in blocks of 32 to 64 and prefetch three to four of them).
_MIN_K = constant("matmul.min_k")
# Bits of a group's scale, and vector instructions that apply two of them (convert, multiply, multiply-add).
_SCALE_BITS, _RESCALE = constant("matmul.scale_bits"), constant("matmul.rescale")
# Kernel classes to borrow from where a class was not measured: the nearest in how the kernel works.
_ALIKE = {
    "fp8": ("int8",),
    "int8": ("fp8",),
    "fp8-block": ("fp8", "int8"),
    "fp4": ("fp8", "fp8-block", "int8"),
    "int8-wo": ("bf16",),
    "int4-wo": ("int8-wo", "bf16"),
}


def price(op: Op, on: Target) -> Cost:
    """Time of ``batch`` GEMMs of (m, k) × (k, n) from the datasheet's rates."""
    rate, engine = _rate(op, on)
    d = op.dims
    batch = d.get("batch", 1.0)
    element = sum((o.bytes for o in op.reads), 0.0) / maximum(sum((o.elements for o in op.reads), 0.0), 1.0)
    rate = rate * on.efficiency.of("compute", op.kind)
    compute, cached = tiled(on, op.kind, engine, rate, d["m"], d["n"], d["k"], batch, element, on.vector_time(op))
    moved = memory_bytes(op, on, cached)
    parts = {
        "compute": compute,
        on.memory.name: on.memory_time(moved, op.kind),
        on.cache_name: on.cache_time(cached, op.kind),
    }
    scaling = _scaling(op, on)
    if not np.all(np.asarray(scaling) == 0.0):
        parts["dequantize"] = scaling
    return on.cost(op.kind, parts, op.flops, {on.memory.name: moved, on.cache_name: cached})


def calibrated(op: Op, on: Target) -> Cost | None:
    """The same from coefficients, where they were fitted to the op's kernel class or one like it."""
    rate, engine = _rate(op, on)
    fit = fitted(op, on) if engine.tiles else None
    return None if fit is None else _calibrated(op, on, fit, rate, engine)


def _rate(op: Op, on: Target) -> tuple[Num, Engine]:
    rate, engine = on.rate(op.arithmetic)
    return rate * sparse(op, engine), engine


def _scaling(op: Op, on: Target) -> Num:
    """Seconds of the vector engine to scale the sums of integer products, group by group of K.

    Where operands carry a 16-bit scale for each group along K, an accumulator holds whole numbers of one group only:
    at its end it is converted, the two scales are multiplied, and the product added to the result, three vector
    instructions an output. They run beside the matrix engine, whose rate grows with fewer bits where theirs does not.
    """
    weight = next((o.format for o in op.reads if o.role == "weight"), None)
    if weight is None:
        return 0.0
    integer = np.char.startswith(np.asarray(op.arithmetic, dtype=np.str_), "int")
    d = op.dims
    groups = d["k"] * weight.meta / _SCALE_BITS
    instructions = d["m"] * d["n"] * d.get("batch", 1.0) * groups * _RESCALE
    # A multiply-add is one instruction and two FLOPs.
    rate = on.rate("fp32", "vector")[0] / 2.0 * on.efficiency.of("compute", "vector")
    return where(integer, instructions / rate, 0.0 * instructions)


def _calibrated(op: Op, on: Target, fit: Fit, rate: Num, engine: Engine) -> Cost:
    d = op.dims
    batch = d.get("batch", 1.0)
    first, second = op.reads[0], op.reads[1] if len(op.reads) > 1 else op.reads[0]
    weight = second.format.bytes * second.elements / maximum(d["n"] * d["k"] * batch, 1.0)
    narrow = native_bytes(op, first.format.bytes)
    # What is added to something in memory reads it as well: it stands twice among what is written.
    size = maximum(d["m"] * d["n"] * batch, 1.0)
    out = sum((o.bytes for o in op.writes), 0.0) / size if op.writes else 2.0
    parts = kernel(on, fit, rate, engine, d["m"], d["n"], d["k"], batch=batch, weight=weight, act=narrow,
                   out=out, produced=second.role != "weight")  # fmt: skip
    serial = dict(parts.serial)
    serial["quantize"] = quantize(on, fit, num(engine.units), d["m"], d["k"], narrow)
    moved = {on.memory.name: parts.moved, on.cache_name: parts.cached}
    overlapped = dict(parts.overlapped)
    # The host runs ahead of the device, so a launch only costs what the kernel does not hide: in a loop over one
    # kernel, what exceeds all of it.
    host = maximum(fit["host"], on.device.dispatch.eager)
    overlapped |= on.launches(maximum(host - sum(serial.values(), 0.0), 0.0) if on.weight_copies else host)
    return Cost(overlapped, serial, op.flops, moved, fit.basis, fit.interval)


def fitted(op: Op, on: Target) -> Fit | None:
    """The coefficients for an op's kernel class, or for the nearest class there are any for."""
    name = kernel_class(op)
    if is_array(name):
        distinct = {str(x) for x in np.unique(name)}
        as_found = {x: _found(x, on) for x in distinct}
        if None in as_found.values():
            return None
        return on.efficiency.fit("matmul", np.vectorize(as_found.get, otypes=[str])(name))
    found = _found(str(name), on)
    return None if found is None else on.efficiency.fit("matmul", found)


def _found(name: str, on: Target) -> str | None:
    return next((x for x in (name, *_ALIKE.get(name, ())) if on.efficiency.fit("matmul", x) is not None), None)


def kernel_class(op: Op) -> Names:
    """What kind of kernel multiplies an op's operands: ``bf16``, ``fp8``, ``fp8-block``, ``fp4``, ``int8``, or, where
    weights are expanded on the way (weight only), ``int8-wo`` and ``int4-wo``; else the arithmetic's own name."""
    arithmetic = np.asarray(op.arithmetic)
    weight = next((o.format for o in op.reads if o.role == "weight"), op.reads[-1].format)
    bits, meta = np.asarray(weight.bits), np.asarray(weight.meta)
    plain = (arithmetic == "bf16") | (arithmetic == "fp16")
    narrow = np.where(bits > 6.0, "int8-wo", "int4-wo")
    out = np.where(plain, np.where(bits < 16.0, narrow, "bf16"), arithmetic)
    out = np.where((arithmetic == "fp8") & (meta > 0), "fp8-block", out)
    return out if is_array(out) else str(out)


def native_bytes(op: Op, stored: Num) -> Num:
    """Bytes of an activation element as the matrix engine reads it: 8- and 4-bit arithmetic reads it quantized."""
    sizes = {"fp8": 1.0, "int8": 1.0, "fp4": 0.5625, "fp6": 0.8125, "int4": 0.5}
    arithmetic = np.asarray(op.arithmetic)
    out: Num = stored
    for name, size in sizes.items():
        if np.any(arithmetic == name):
            out = where(arithmetic == name, minimum(size, stored), out)
    return out


def tiled(
    on: Target, kind: str, engine: Engine, rate: Num, m: Num, n: Num, k: Num, batch: Num, element: Num,
    beside: Num = float("inf"),
) -> tuple[Num, Num]:
    """(seconds of arithmetic, bytes through the last cache) for the best of the engine's tile shapes.

    Output tiles are dealt to ``engine.units`` in waves; a last, part-filled wave costs a whole one. Where there
    are fewer tiles than units, K is cut so that all units work (split-K). Every tile streams its operands
    from the last cache: ``(tm + tn) k`` elements, of which a cluster of units, working on neighbouring tiles,
    fetches the longer side once for all its members. The best shape has the least of both. Where another engine does
    the arithmetic ``beside`` in less (the vector engine, for few rows), it takes that long.
    """
    flops = 2.0 * m * n * k * batch
    if not engine.tiles:
        return minimum(flops / rate, beside), (m * k + k * n + m * n) * batch * element
    least = (m * k + k * n) * batch * element
    best_time: Num | None = None
    best_both: Num = 0.0
    best_cached: Num = 0.0
    for tm, tn in engine.tiles:
        tiles = ceil_div(m, float(tm)) * ceil_div(n, float(tn)) * batch
        cuts = maximum(minimum(engine.units / tiles, k / _MIN_K), 1.0)
        waves = ceil_div(tiles * cuts, num(engine.units))
        time = minimum(waves * engine.units * (2.0 * tm * tn) * (k / cuts) / rate, beside)
        rows, columns = minimum(m, float(tm)), minimum(n, float(tn))
        if tn >= tm:
            columns = columns / minimum(float(engine.cluster), ceil_div(m, float(tm)))
        else:
            rows = rows / minimum(float(engine.cluster), ceil_div(n, float(tn)))
        cached = maximum(tiles * (rows + columns) * k * element, least)
        both = maximum(time, on.cache_time(cached, kind))
        if best_time is None:
            best_time, best_both, best_cached = time, both, cached
        else:
            better = both < best_both
            best_time = where(better, time, best_time)
            best_cached = where(better, cached, best_cached)
            best_both = minimum(both, best_both)
    assert best_time is not None
    return best_time, best_cached


def memory_bytes(op: Op, on: Target, cached: Num) -> Num:
    """Bytes from and to the main memory.

    Weights move once (not at all when they live in the cache between passes). Activations small enough for
    the last cache stay there from producer to consumer. Operands too large for it are fetched again by each
    wave, which shares the rows and columns of the tiles it works on.
    """
    weights = op.bytes_of("weight") * (1.0 - on.resident)
    acts = op.bytes_of("act") + op.bytes_of("score")
    acts = where(acts <= on.cache_capacity, 0.0 * acts, acts)
    # Operands of role ``host`` come over the link to it.
    other = op.bytes - op.bytes_of("weight") - op.bytes_of("act") - op.bytes_of("score") - op.bytes_of("host")
    once = weights + acts + other
    reads = sum((o.bytes for o in op.reads), 0.0)
    # A wave of U tiles in a square needs 1/sqrt(U) of the traffic its tiles would need one by one.
    units = num(on.rate(op.arithmetic)[1].units)
    again = where(reads > on.cache_capacity, cached / units**0.5, 0.0 * cached)
    return maximum(once, again)
