"""Convolution as an implicit GEMM: output positions × output channels × (input channels × window)."""

from __future__ import annotations

from tierwise.core.num import minimum, num, where
from tierwise.cost.matmul import memory_bytes, tiled
from tierwise.cost.types import Cost, Target
from tierwise.program.types import Op


def price(op: Op, on: Target) -> Cost:
    """Time of a (grouped) convolution; each group is a GEMM of its own, so depthwise ones fill tiles badly.

    A depthwise convolution is also tried on the vector engine, where no tile goes to waste. Where depthwise ones have
    a fraction of their own, they reach that.
    """
    d = op.dims
    groups = d.get("groups", 1.0)
    m = d["batch"] * d["out_h"] * d["out_w"]
    n, k = d["c_out"] / groups, d["c_in"] / groups * d["kh"] * d["kw"]
    rate, engine = on.rate(op.arithmetic)
    rate = rate * on.efficiency.of("compute", op.kind)
    if "depthwise" in on.efficiency.compute:
        slower = on.efficiency.of("compute", "depthwise") / on.efficiency.of("compute", op.kind)
        rate = where(num(groups) > 1.0, rate * slower, rate)
    weight = next((o for o in op.reads if o.role == "weight"), None)
    element = weight.format.bytes if weight is not None else 2.0
    compute, cached = tiled(on, op.kind, engine, rate, m, n, k, groups, element)
    moved = memory_bytes(op, on, 0.0 * cached)
    parts = {
        "compute": minimum(compute, on.vector_time(op)) if engine.tiles or engine.kind == "matrix" else compute,
        on.memory.name: on.memory_time(moved, op.kind),
        on.cache_name: on.cache_time(op.bytes, op.kind),
    }
    return on.cost(op.kind, parts, op.flops, {on.memory.name: moved, on.cache_name: op.bytes})
