"""What holds for every price: no kernel beats the datasheet's peaks, and bytes pay the tier or path they move over."""

from __future__ import annotations

from dataclasses import replace

from tierwise.core.num import Num, is_zero, maximum, where
from tierwise.cost.paths import seconds
from tierwise.cost.types import Cost, Target, sparse
from tierwise.program.types import Op


def within_peaks(op: Op, on: Target, cost: Cost) -> Cost:
    """The cost, its time raised where it means more arithmetic or memory traffic a second than the datasheet's peak.

    Coefficients fitted to one device and carried to another, or fitted where a cache helped, can say so; the missing
    seconds go to the resource whose peak it is. Collectives do no arithmetic and move nothing a tier counts.
    """
    serial = sum(cost.serial.values(), 0.0)
    overlapped = dict(cost.overlapped)
    if not is_zero(cost.flops):
        rate, engine = on.rate(op.arithmetic)
        least = cost.flops / (rate * sparse(op, engine)) - serial
        overlapped["compute"] = maximum(overlapped.get("compute", 0.0), least)
    memory = on.memory.name
    if memory in cost.bytes:
        least = cost.bytes[memory] / on.memory.bandwidth - serial
        overlapped[memory] = maximum(overlapped.get(memory, 0.0), least)
    return replace(cost, overlapped=overlapped)


def writing(op: Op, on: Target, cost: Cost) -> Cost:
    """The cost with what writes take longer than reads, on a memory or cache that writes slower."""
    for table, tier in (("memory", on.memory), ("cache", on.device.cache)):
        if tier is None or tier.name not in cost.overlapped or is_zero(tier.bandwidth):
            continue
        # The usual case, worth no arithmetic.
        if not is_zero(tier.bandwidth - tier.write_bandwidth):
            size = written(op, on) if table == "memory" else sum((o.bytes for o in op.writes), 0.0)
            slower = on.slower_writes(tier, size, table, op.kind)
            cost = replace(cost, overlapped={**cost.overlapped, tier.name: cost.overlapped[tier.name] + slower})
    return cost


def written(op: Op, on: Target) -> Num:
    """Bytes an op writes to the main memory: all but activations that the last cache keeps for their reader."""
    loose = op.bytes_of("act") + op.bytes_of("score")
    fresh = sum((o.bytes for o in op.writes if o.role in ("act", "score")), 0.0)
    kept = sum((o.bytes for o in op.writes if o.role not in ("act", "score", "host")), 0.0)
    return kept + where(loose <= on.cache_capacity, 0.0 * fresh, fresh)


def reaching(op: Op, on: Target, cost: Cost) -> Cost:
    """The cost with operands of role ``host``, which a kernel reads and writes in place, over the way to the host.

    Raises:
        TierwiseError: the device has no link to its host.
    """
    if not any(o.role == "host" for o in (*op.reads, *op.writes)):
        return cost
    read = sum((o.bytes for o in op.reads if o.role == "host"), 0.0)
    wrote = sum((o.bytes for o in op.writes if o.role == "host"), 0.0)
    overlapped, moved = dict(cost.overlapped), dict(cost.bytes)
    for size, source, target in ((read, "host", ""), (wrote, "", "host")):
        if not is_zero(size):
            for name, time in seconds(on, source, target, size).items():
                # What stays in place does not pass the device's own memory.
                if name != on.memory.name:
                    overlapped[name] = overlapped.get(name, 0.0) + time
                    moved[name] = moved.get(name, 0.0) + size
    return replace(cost, overlapped=overlapped, bytes=moved)
