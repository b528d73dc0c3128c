"""A phase as JSON: its time by resource, its traffic by tier and by what was moved, and its ops."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any

import numpy as np

from tierwise.core.num import Num, maximum, minimum, where
from tierwise.core.numerics import Names
from tierwise.cost import Cost, Target, efficiency
from tierwise.machines.types import Tier
from tierwise.report.plain import plain
from tierwise.result import Phase, PricedOp, Result
from tierwise.steps.cost import HOST

Json = dict[str, Any]

# Operand roles in the order in which traffic is put down to them: what must come from memory first.
ROLES = ("weight", "table", "kv", "state", "act")
REFETCHED = "refetched"

# Names of prices that say what happens, by the resource it happens on; no resource is what no term explains.
_RESOURCES = {"launch": "host", "none": "unexplained"}


def phase_dict(phase: Phase, result: Result) -> Json:
    """One phase; see ``docs/json.md``."""
    device = result.scenario.machine.device
    known = {t.name for t in device.tiers} | {"link", "network", "host.in", "host.out"}
    traffic = {tier: size for tier, size in phase.traffic.items() if tier in known and _some(size)}
    memory = device.memory
    whole = phase.total(lambda p: p.cost.time)
    return {
        "name": phase.name,
        "passes": plain(phase.passes),
        "pipeline_stretch": plain(phase.pipeline_stretch),
        "sequences": plain(phase.step.seqs),
        "new_tokens": plain(phase.step.new),
        "past_tokens": plain(phase.step.past),
        "pass_time_s": plain(phase.pass_time),
        "time_s": plain(phase.time),
        "flops": plain(phase.flops),
        "bytes": {tier: plain(size) for tier, size in traffic.items()},
        "bytes_by_role": {t.name: _by_role(phase, t.name) for t in device.tiers if t.name in traffic},
        "operand_bytes": _nonzero((role, phase.reads(role)) for role in (*ROLES, "score")),
        "seconds_by_bound": _nonzero(by_resource(phase.bounds.items()).items()),
        "seconds_if_alone": _nonzero(_alone(phase).items()),
        "bound_by": resource(phase.bound_by),
        "mfu": plain(_mfu(phase, result)),
        "mbu": plain(phase.traffic.get(memory.name, 0.0) / _over(phase.pass_time * memory.bandwidth)),
        "overlap": phase.cost.overlaps,
        "host_s": plain(_host(phase)),
        "roofs": _roofs(phase, result),
        "order": [[phase.program.segments[i].name, len(list(same))] for i, same in groupby(phase.program.order)],
        "ops": [_op(p, phase, whole, memory, known) for p in phase.ops],
    }


def energy_dict(result: Result) -> Json:
    """Joules of the whole system for the batch, by component, by phase and op; see ``docs/json.md``."""
    ops: list[Json] = []
    between: dict[str, Num] = {}
    for phase in result.phases:
        each, left = result.energy_by_op(phase)
        for p, parts in zip(phase.ops, each, strict=True):
            ops.append({"phase": phase.name, "layer": p.segment.name, "name": p.op.name, "role": p.op.role,
                        "energy_j": plain(sum(parts.values(), 0.0)), "parts": _nonzero(parts.items())})  # fmt: skip
        between[phase.name] = sum(left.values(), 0.0)
    return {
        "total_j": plain(result.energy),
        "interval_j": [plain(x) for x in result.energy_interval],
        "parts": _nonzero(result.energy_parts.items()),
        "ops": ops,
        "between_j": {name: plain(x) for name, x in between.items()},
        "system_j": plain(result.energy_parts["system"]),
    }


def _op(p: PricedOp, phase: Phase, whole: Num, main: Tier, known: set[str]) -> Json:
    n, cost, memory = p.segment.repeat, p.cost, main.name
    moved = cost.bytes.get(memory, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        intensity = np.asarray(cost.flops) / np.asarray(moved)
    return {
        "name": p.op.name,
        "layer": p.segment.name,
        "kind": p.op.kind,
        "role": p.op.role,
        "arithmetic": plain(p.op.arithmetic),
        "count": plain(n),
        "time_s": plain(p.time),
        "share": plain(p.time / _over(whole)),
        "flops": plain(n * cost.flops),
        "bytes": _nonzero((tier, n * size) for tier, size in cost.bytes.items() if tier in known),
        "operand_bytes": _nonzero((role, n * p.op.bytes_of(role)) for role in (*ROLES, "score")),
        "seconds": _nonzero((k, n * v) for k, v in seconds_of(cost).items()),
        "intensity": plain(intensity),
        "mfu": plain(phase.time_at_peak_of(p) / _over(cost.time)),
        "mbu": plain(moved / _over(cost.time * main.bandwidth)),
        "bound_by": resource(cost.bound_by),
    }


def _over(x: Num) -> Num:
    """A denominator that is not zero."""
    return maximum(x, 1e-300)


def _some(x: Num) -> bool:
    return bool(np.any(np.asarray(x) > 0))


def _nonzero(items: Iterable[tuple[str, Num]]) -> Json:
    return {name: plain(x) for name, x in items if _some(x)}


def _host(phase: Phase) -> Num:
    """Seconds of a pass that the engine and its host add to the ops; 0 where the ops are paced by the host already."""
    return phase.bounds.get(HOST, 0.0)


def resource(names: Names) -> Any:
    """The resource that a price's term is of; lists of names for a sweep."""
    if isinstance(names, str):
        return _RESOURCES.get(names, names)
    return [resource(name) for name in plain(names)]


def by_resource(terms: Iterable[tuple[str, Num]]) -> dict[str, Num]:
    """Seconds of a price's terms by resource."""
    out: dict[str, Num] = {}
    for term, t in terms:
        name = _RESOURCES.get(term, term)
        out[name] = out.get(name, 0.0) + t
    return out


def seconds_of(cost: Cost) -> dict[str, Num]:
    """What one execution takes of each resource, those that work side by side and those that come on top."""
    return by_resource([*cost.overlapped.items(), *cost.serial.items()])


def _alone(phase: Phase) -> dict[str, Num]:
    """Seconds of a pass each resource would need if it were the only limit."""
    ops = [(name, p.segment.repeat * t) for p in phase.ops for name, t in seconds_of(p.cost).items()]
    return by_resource([*ops, (HOST, _host(phase))])


def _by_role(phase: Phase, tier: str) -> Json:
    """The traffic of a tier by what was moved.

    A price only says how much an op moves through a tier. It is put down to the op's operands once each, in
    the order of :data:`ROLES` (weights are sure to come from memory, activations may stay on chip); what is
    left was moved again, such as an operand that every tile fetches for itself.
    """
    out: dict[str, Num] = {}
    for p in phase.ops:
        moved = left = p.cost.bytes.get(tier, 0.0)
        for role in ROLES:
            part = minimum(left, p.op.bytes_of(role))
            out[role] = out.get(role, 0.0) + p.segment.repeat * part
            left = left - part
        left = where(left > 1e-9 * moved, left, 0.0)  # not what the subtractions above leave by rounding
        out[REFETCHED] = out.get(REFETCHED, 0.0) + p.segment.repeat * left
    return _nonzero(out.items())


def _mfu(phase: Phase, result: Result) -> Num:
    """As the run's MFU, of the phase's own work and time."""
    return phase.time_at_peak * phase.passes * phase.share / _over(phase.time)


def _roofs(phase: Phase, result: Result) -> Json:
    """Peak FLOP/s of the device in each arithmetic the phase's larger ops use."""
    machine = result.scenario.machine
    target = Target(machine, efficiency(machine.device))
    out: Json = {}
    for p in phase.ops:
        if p.op.kind in ("matmul", "attention", "conv", "moe", "scan") and _some(p.op.flops):
            for name in np.unique(np.asarray(p.op.arithmetic)):
                if str(name):
                    out[str(name)] = plain(target.rate(str(name))[0])
    return out
