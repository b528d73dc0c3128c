"""Tensors gathered from the host's memory over its link, beside what the device does with what it has."""

from __future__ import annotations

from tierwise.cost.types import Cost, Target
from tierwise.program.types import Op


def price(op: Op, on: Target) -> Cost:
    """The slowest of three that run side by side: operands of role ``host`` over the host link, all others through
    memory, and the arithmetic. A device without such a link waits for ever."""
    link = on.device.link("host")
    away = op.bytes_of("host")
    near = op.bytes - away
    rate, _ = on.rate(op.arithmetic)
    over = away / (link.bandwidth * on.efficiency.link) if link is not None else away * float("inf")
    parts = {
        "compute": op.flops / (rate * on.efficiency.of("compute", "matmul")),
        on.memory.name: on.memory_time(near, op.kind),
        "link": over,
    }
    # One kernel gathers over the link, one rebuilds.
    return on.cost(op.kind, parts, op.flops, {on.memory.name: near, "link": away}, kernels=2.0)
