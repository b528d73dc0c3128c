"""Routed experts of one device: a grouped GEMM pair over the experts that were touched."""

from __future__ import annotations

import numpy as np

from tierwise.core.num import Num, is_array, maximum
from tierwise.core.numerics import Names
from tierwise.cost.attention import chip
from tierwise.cost.experts import TILES, grouped, tile_rows
from tierwise.cost.flash import kept
from tierwise.cost.matmul import memory_bytes, tiled
from tierwise.cost.types import Cost, Fit, Target, either, sparse
from tierwise.program.types import Op


def price(op: Op, on: Target) -> Cost:
    """Time of permuting tokens, both GEMMs and the activation between them.

    Every touched expert's rows are padded to whole tiles, so many experts with few rows each cost more
    arithmetic than their FLOPs.
    """
    d = op.dims
    touched = maximum(d["touched"], 1e-9)
    rows = d["tokens"] / touched
    rate, engine = on.rate(op.arithmetic)
    rate = rate * on.efficiency.of("compute", op.kind) * sparse(op, engine)
    weight = next(o for o in op.reads if o.role == "weight")
    # Experts of few tokens are matrix-vector products on the vector engine, where no tile goes to waste.
    beside = on.vector_time(op) / (d["up"] + 1.0)
    up, cached_up = tiled(on, op.kind, engine, rate, rows, d["up"] * d["inner"], d["hidden"], touched,
                          weight.format.bytes, beside * d["up"])  # fmt: skip
    down, cached_down = tiled(on, op.kind, engine, rate, rows, d["hidden"], d["inner"], touched,
                              weight.format.bytes, beside)  # fmt: skip
    cached = cached_up + cached_down
    moved = memory_bytes(op, on, 0.0 * cached)
    parts = {
        "compute": up + down,
        on.memory.name: on.memory_time(moved, op.kind),
        on.cache_name: on.cache_time(cached, op.kind),
    }
    # Permute, up, activation, down.
    return on.cost(op.kind, parts, op.flops, {on.memory.name: moved, on.cache_name: cached}, kernels=4.0)


def calibrated(op: Op, on: Target) -> Cost | None:
    """The same from coefficients, where they were fitted to the op's formats."""
    found = formats(op)
    fit = on.efficiency.fit("moe", found)
    if fit is None:
        return None
    cost = _fitted(op, on, fit)
    # Some engines pick another kernel where experts are dealt over devices.
    dealt = np.asarray(op.dims.get("routed", op.dims["tokens"])) > 1.01 * np.asarray(op.dims["tokens"])
    if dealt.any() and not is_array(found) and ":" not in on.efficiency.engine:
        own = on.efficiency.fit("moe", f"{found}-ep")
        if own is not None and own.dtype == f"{found}-ep":
            return _fitted(op, on, own) if dealt.all() else either(dealt, _fitted(op, on, own), cost)
    return cost


def formats(op: Op) -> Names:
    """The class of number formats: ``bf16``, ``fp8``, ``fp8-block``, ``nvfp4``, ``mxfp4``, ``mxfp4-mxfp8`` (with
    8-bit activations) or ``int4`` (any weight-only format)."""
    weight = next(o for o in op.reads if o.role == "weight").format
    acts = np.asarray(next((o.format.bits for o in op.reads if o.role == "act"), 16.0))
    name, bits, native = np.asarray(weight.name), np.asarray(weight.bits), np.asarray(weight.arithmetic) != ""
    fours = np.where(acts <= 8.0, "mxfp4-mxfp8", "mxfp4")
    known = np.where(np.isin(name, ["fp8-block", "nvfp4"]), name, np.where(bits <= 4.0, fours, "fp8"))
    out = np.where(bits > 8.0, "bf16", np.where(native, known, "int4"))
    return out if is_array(out) else str(out)


def _fitted(op: Op, on: Target, fit: Fit) -> Cost:
    d = op.dims
    rows, touched = maximum(d["tokens"], 1e-9), maximum(d["touched"], 1e-9)
    routed, reaching = d.get("routed", rows), d.get("reaching", rows)
    values = fit.values if on.weight_copies else {**fit.values, "warm": 0.0}
    tile = tile_rows(values, rows, touched, reaching, d["experts"])
    weights = op.bytes_of("weight") * (1.0 - on.resident)
    compute, read, extra = grouped(
        chip(op, on), values, tile=tile, tiles=_tiles(op, tile, rows, touched), rows=rows, touched=touched,
        experts=d["experts"], tokens=reaching, routed=routed, hidden=d["hidden"], inner=d["inner"], up=d["up"],
        weights=weights,
    )  # fmt: skip
    # Permute, up, activation, down.
    parts = {"compute": compute, on.memory.name: read, **on.launches(4.0 * on.device.dispatch.eager)}
    moved = memory_bytes(op, on, 0.0 * read) - weights * kept(chip(op, on), weights, values["warm"])
    return Cost(parts, extra, op.flops, {on.memory.name: moved}, fit.basis, fit.interval)


def _tiles(op: Op, tile: Num, rows: Num, touched: Num) -> Num:
    """Row tiles of all touched experts: as counted for each tile size (``tiles_16``, ...), else as many as random
    routing needs, which leaves half a tile empty at each expert."""
    if "tiles_16" not in op.dims:
        return maximum(touched, rows / tile + 0.5 * touched)
    out = op.dims["tiles_128"]
    for size in TILES[:-1]:
        out = np.where(np.asarray(tile) == size, op.dims[f"tiles_{int(size)}"], out)
    return maximum(out, 1e-9)
