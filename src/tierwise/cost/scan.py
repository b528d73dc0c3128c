"""Recurrent scans: selective state spaces, gated delta rules, linear attention."""

from __future__ import annotations

from tierwise.core.num import where
from tierwise.cost.types import Cost, Target
from tierwise.program.types import Op


def price(op: Op, on: Target) -> Cost:
    """Operands and states once; arithmetic on the matrix engine when the scan is chunked, else on the vector one.

    A chunked scan (``dims["chunk"]``) turns the recurrence into small GEMMs (SSD, arXiv:2405.21060);
    a plain scan is elementwise work, one state update per token and channel.
    """
    chunked = "chunk" in op.dims and op.options.get("phase") != "decode"
    rate, _ = on.rate(op.arithmetic, "matrix" if chunked else "vector")
    kind = "attention" if chunked else "vector"
    acts = op.bytes_of("act")
    moved = op.bytes - where(acts <= on.cache_capacity, acts, 0.0 * acts)
    parts = {
        "compute": op.flops / (rate * on.efficiency.of("compute", kind)),
        on.memory.name: on.memory_time(moved, op.kind),
        on.cache_name: on.cache_time(op.bytes, op.kind),
    }
    return on.cost(op.kind, parts, op.flops, {on.memory.name: moved, on.cache_name: op.bytes})
