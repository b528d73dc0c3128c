"""Tensors gathered from the host's memory over its link, beside what the device does with what it has."""

from __future__ import annotations

from tierwise.cost.types import Cost, Target
from tierwise.program.types import Op


def price(op: Op, on: Target) -> Cost:
    """Arithmetic and the operands that lie in the device's memory, side by side; those of role ``host`` come over
    their link beside both, as for any op."""
    near = op.bytes - op.bytes_of("host")
    rate, _ = on.rate(op.arithmetic)
    parts = {
        "compute": op.flops / (rate * on.efficiency.of("compute", "matmul")),
        on.memory.name: on.memory_time(near, op.kind),
    }
    # One kernel gathers over the link, one rebuilds.
    return on.cost(op.kind, parts, op.flops, {on.memory.name: near}, kernels=2.0)
