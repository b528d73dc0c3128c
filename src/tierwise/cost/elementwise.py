"""Kernels bound by moving their operands: activations, rotary embeddings, cache writes, sampling."""

from __future__ import annotations

from tierwise.core.num import where
from tierwise.cost.types import Cost, Target
from tierwise.program.types import Op


def price(op: Op, on: Target) -> Cost:
    """Every operand once: from the last cache when all fit there, else from memory; vector arithmetic beside."""
    total = op.bytes
    sticky = op.bytes_of("kv") + op.bytes_of("table") + op.bytes_of("state") + op.bytes_of("weight")
    loose = total - sticky
    moved = sticky + where(loose <= on.cache_capacity, 0.0 * loose, loose)
    rate, _ = on.rate("fp32", "vector")
    parts = {
        "compute": op.flops / (rate * on.efficiency.of("compute", "vector")),
        on.memory.name: on.memory_time(moved, op.kind),
        on.cache_name: on.cache_time(total, op.kind),
    }
    return on.cost(op.kind, parts, op.flops, {on.memory.name: moved, on.cache_name: total})
