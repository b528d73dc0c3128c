"""Tensors that lie outside the device's memory, and ops computed where they lie."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from tierwise.core.num import Num, is_zero, num
from tierwise.cost import Target, efficiency
from tierwise.cost.nodes import at
from tierwise.cost.paths import path
from tierwise.models.lower import lower
from tierwise.models.step import Step
from tierwise.program.placement import Placement
from tierwise.program.types import Op
from tierwise.scenario.types import Resolved, Scenario
from tierwise.techniques._make import Technique, applied, within

# A step of each kind, of one sequence with something in its cache.
_PHASES = ("decode", "encode", "vision", "audio")


def offload_weights(fraction: Num = 1.0, to: str = "host") -> Technique:
    """Weights lie on another node and are copied to the device before each use (FlexGen, arXiv:2303.06865).

    Args:
        fraction: of every weight; the rest stays in the device's memory.
        to: ``host``, a disk of the host, or another tier of the device.
    """
    return _placed(f"weights on {to}", "weights", fraction, to)


def offload_kv(fraction: Num = 1.0, to: str = "host", mapped: bool = False) -> Technique:
    """The KV cache lies on another node: read over its path by every step, and written to it (FlexGen,
    arXiv:2303.06865).

    Args:
        fraction: of every sequence's cache; the rest stays in the device's memory.
        to: ``host``, a disk of the host, or another tier of the device.
        mapped: it is a file of the disk, read through the page cache (FlexGen's TorchDisk).
    """
    return _placed(f"KV cache on {to}", "kv", fraction, to, mapped)


def compute_in(node: str, ops: str = "attention") -> Technique:
    """Ops of a kind or role are computed by another node than the device, next to the cache that lies there (attention
    in HBM-PIM, AttAcc, arXiv:2403.02138; on the host, FastDecode, arXiv:2403.11421).

    Args:
        node: a tier with compute of its own, a drive of the computer that computes, or ``host``; the KV cache moves
            there when ``ops`` is ``attention``.
        ops: kind of op (``attention``) or role (``mlp``).

    Example: ``compute_in:node=host``
    """

    def technique(s: Scenario) -> Scenario:
        r = s.resolved()
        at(_target(r), node)  # refuses a node that computes nothing
        placement = r.plan.placement.with_ops(ops, node)
        if ops == "attention":
            placement = placement.with_tensors("kv", {node: 1.0})
        changed = replace(r, plan=replace(r.plan, placement=placement))
        count = sum((n for n, op in _ops(changed) if op.options.get("on") == node), 0.0)
        return _applied(s, changed, f"{ops} computed in {node}", f"ops computed in {node}", count,
                        f"it has no ops of kind or role {ops!r}")  # fmt: skip

    return technique


def _placed(name: str, group: str, fraction: Num, to: str, mapped: bool = False) -> Technique:
    within(f"offload_{group}", 0, 1, fraction=fraction)

    def technique(s: Scenario) -> Scenario:
        r = s.resolved()
        path(_target(r), to, "")  # refuses a node that no way leads to
        placement = r.plan.placement.with_tensors(group, {to: num(fraction)})
        placement = replace(placement, mapped=placement.mapped or mapped)
        changed = replace(r, plan=replace(r.plan, placement=placement))
        found = 0.0 if is_zero(fraction) else _copies(changed) - _copies(_without(changed))
        needs = "a fraction above 0" if is_zero(fraction) else f"a model with {name.split(' on ', maxsplit=1)[0]}"
        return _applied(s, changed, name, "copies", found, f"it needs {needs}")

    return technique


def _applied(s: Scenario, changed: Resolved, name: str, what: str, count: Num, needs: str) -> Scenario:
    return applied(replace(s, plan=changed.plan), name, ((what, float(count)),), changed.model.name, needs)


def _without(r: Resolved) -> Resolved:
    return replace(r, plan=replace(r.plan, placement=Placement()))


def _copies(r: Resolved) -> float:
    return sum((n for n, op in _ops(r) if op.kind == "copy"), 0.0)


def _ops(r: Resolved) -> Iterator[tuple[float, Op]]:
    """Every op of a step of each kind, with its executions (those of the first configuration)."""
    for phase in _PHASES:
        for where, op in lower(Step(r.model, r.plan, 1.0, 1.0, 1.0, phase)).walk():
            yield float(np.ravel(where.repeat)[0]), op


def _target(r: Resolved) -> Target:
    return Target(r.machine, efficiency(r.machine.device))
