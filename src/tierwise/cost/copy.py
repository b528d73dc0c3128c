"""Bytes moved from one place to another by a copy engine: nothing computes, the narrowest port sets the pace."""

from __future__ import annotations

import numpy as np

from tierwise.core.num import Num, where
from tierwise.cost.kits import kit
from tierwise.cost.paths import mapped, pageable, path
from tierwise.cost.types import Cost, Target
from tierwise.program.types import Op


def price(op: Op, on: Target) -> Cost:
    """Time of ``dims["bytes"]`` from ``options["from"]`` to ``options["to"]`` in ``dims["transfers"]`` transfers (1).

    Every transfer pays the latency of its way once. Ports are tiers, ``host.in`` and ``host.out``
    (see :mod:`tierwise.cost.paths`); reading a tier and writing it pay their own bandwidth. With
    ``options["mapped"]`` a disk is read through the page cache, with ``options["pageable"]`` the host's memory through
    a driver's buffer; with ``options["gathered"]`` it is copied once more where it arrived. Results that another node
    waits for (``options["waits"]``) also pay what an engine with kernels of its own takes to synchronize two devices.

    Raises:
        TierwiseError: no path leads from one to the other.
    """
    size = op.dims["bytes"]
    ports, latency = path(on, str(op.options["from"]), str(op.options["to"]))
    if op.options.get("mapped"):
        ports = mapped(on, str(op.options["from"]), ports, latency)
    if op.options.get("pageable"):
        ports = pageable(ports)
    waits = where(np.asarray(size) > 0.0, latency * op.dims.get("transfers", 1.0), 0.0)
    overlapped: dict[str, Num] = {}
    moved: dict[str, Num] = {}
    for p in ports:
        # A node that is written and read again on the way (the host's memory, before a disk) is busy with both.
        overlapped[p.name] = overlapped.get(p.name, 0.0) + size / p.bandwidth
        moved[p.name] = moved.get(p.name, 0.0) + size
    own = kit(on.efficiency.engine, on.device) if op.options.get("waits") else None
    if own is not None:
        waits = waits + own.values.get("sync", 0.0) * op.dims.get("transfers", 1.0)
    serial: dict[str, Num] = {"latency": waits}
    if op.options.get("gathered"):
        serial[on.memory.name] = 2.0 * size / (on.memory.bandwidth * on.efficiency.of("memory", "copy"))
        moved[on.memory.name] = moved.get(on.memory.name, 0.0) + 2.0 * size
    return Cost(overlapped, serial, 0.0, moved, "datasheet", on.efficiency.interval)
