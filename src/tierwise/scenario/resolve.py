"""From what a user wrote to values: names looked up, a plan chosen, impossible degrees refused."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tierwise.core.errors import BadField
from tierwise.models.types import Model
from tierwise.scenario.types import Batch, Plan, Resolved, Scenario

if TYPE_CHECKING:
    from tierwise.machines.types import System


def resolve(scenario: Scenario) -> Resolved:
    """Names to values.

    Raises:
        UnknownName: no such model or machine.
        BadField: a degree or size that cannot be.
    """
    from tierwise.machines import system
    from tierwise.models.load import load_model

    model = load_model(scenario.model) if isinstance(scenario.model, str) else scenario.model
    machine = system(scenario.machine) if isinstance(scenario.machine, str) else scenario.machine
    check_machine(machine)
    plan = scenario.plan if scenario.plan is not None else default_plan(model, machine)
    check_traffic(scenario.traffic, model)
    check_plan(plan, model, machine)
    return Resolved(model, machine, scenario.traffic, plan, scenario.techniques, scenario.engine)


def check_machine(machine: System) -> None:
    """Refuse what cannot run a model: disks, network cards and bare memory compute nothing."""
    device = machine.device
    if not device.engines or not any(t.kind == "memory" for t in device.tiers):
        lacks = "engines" if not device.engines else "tiers of kind memory"
        allowed = f"a device that computes and has memory; this one has no {lacks}"
        raise BadField(machine.name, "kind", device.kind, allowed)


def default_plan(model: Model, machine: System, **given: float) -> Plan:
    """A plan that uses every device: tensor parallel inside a node, pipeline between nodes.

    Degrees already ``given`` are kept and the rest follows: expert parallelism over more devices than ``tp``
    makes the rest data parallel. Tensor parallelism stops at what the heads can be divided by; devices left
    over become data parallel.
    """
    tp, pp, dp, ep = (given.get(k) for k in ("tp", "pp", "dp", "ep"))
    count = machine.count
    if tp is None:
        if ep is not None and ep > 1 and dp is None:
            tp = 1
        else:
            room = count // int((pp or 1) * (dp or 1))
            tp = max(d for d in range(1, max(room, 1) + 1) if room % d == 0 and d <= machine.per_node
                     and _divides(model, d))  # fmt: skip
    if pp is None:
        left = count // int(tp * (dp or 1))
        across = machine.nodes if ep is None and dp is None else 1
        pp = across if across and left % max(across, 1) == 0 and _depth(model) >= across else 1
    if dp is None:
        dp = max(count // int(tp * pp), 1)
    return Plan(tp=float(tp), pp=float(pp), dp=float(dp), ep=float(ep or 1))


def _divides(model: Model, degree: int) -> bool:
    heads = _heads(model)
    return heads is None or heads % degree == 0


def _heads(model: Model) -> int | None:
    """Query heads of the text stacks (their greatest common divisor), or None without attention."""
    return _common(model, "heads")


def _common(model: Model, field: str) -> int | None:
    """Greatest common divisor of a field over the text blocks that have it as a plain number."""
    values = (
        getattr(block, field, None)
        for stack in model.stacks
        if stack.stream in ("text", "encode")
        for layer in stack.kinds
        for block in layer.blocks
    )
    found = [int(v) for v in values if isinstance(v, (int, float))]
    return int(np.gcd.reduce(found)) if found else None


def _depth(model: Model) -> int:
    return max((s.depth for s in model.stacks if s.stream == "text"), default=1)


def _experts(model: Model) -> int | None:
    return _common(model, "experts")


def check_plan(plan: Plan, model: Model, machine: System) -> None:
    """Refuse degrees that cannot be, saying which can."""
    for name in ("tp", "pp", "dp", "ep"):
        values = np.asarray(getattr(plan, name), dtype=float)
        if np.any(values < 1) or np.any(values != np.floor(values)):
            raise BadField("plan", name, getattr(plan, name), "whole numbers of at least 1")
    used = np.asarray(plan.devices)
    if np.any(used > machine.count):
        raise BadField("plan", "tp × pp × dp", _show(used), f"at most the {machine.count} device(s) of {machine.name}")
    heads = _heads(model)
    if heads is not None and np.any(heads % np.asarray(plan.tp) != 0):
        allowed = [d for d in range(1, min(heads, machine.count) + 1) if heads % d == 0]
        raise BadField("plan", "tp", _show(np.asarray(plan.tp)),
                       f"a divisor of the {heads} attention heads: {', '.join(map(str, allowed))}")  # fmt: skip
    depth = _depth(model)
    if np.any(np.asarray(plan.pp) > depth):
        raise BadField("plan", "pp", _show(np.asarray(plan.pp)), f"at most the {depth} layers")
    experts = _experts(model)
    ep = np.asarray(plan.ep)
    if np.any(ep > 1):
        if experts is None:
            raise BadField("plan", "ep", _show(ep), f"1: {model.name} has no routed experts")
        group = np.asarray(plan.tp * plan.dp)
        if np.any(ep > group) or np.any(group % ep != 0):
            raise BadField("plan", "ep", _show(ep), f"a divisor of tp × dp = {_show(group)}")
        if np.any(ep > experts):
            raise BadField("plan", "ep", _show(ep), f"at most the {experts} experts")
    for name in ("sparsity",):
        values = np.asarray(getattr(plan, name))
        if np.any(values < 0) or np.any(values >= 1):
            raise BadField("plan", name, getattr(plan, name), "a fraction from 0 up to 1")


def check_traffic(traffic: Batch, model: Model) -> None:
    """Refuse sizes that cannot be."""
    for name, least in (("prompt", 1), ("output", 1), ("batch", 1), ("images", 0)):
        value = getattr(traffic, name)
        if isinstance(value, str):
            if name != "batch" or value != "max":
                raise BadField("traffic", name, value, "a number" + (' or "max"' if name == "batch" else ""))
            continue
        values = np.asarray(value, dtype=float)
        if not np.all(np.isfinite(values)) or np.any(values < least):
            raise BadField("traffic", name, value, f"numbers of at least {least}")


def _show(x: Any) -> object:
    values = np.unique(x)
    return int(values[0]) if values.size == 1 else [int(v) for v in values[:8]]


def describe(plan: Plan) -> str:
    """The parts of a plan that differ from the plainest one, for people: ``"tp=8, weights fp8"``."""
    plain, out = Plan(), []
    for f in fields(plan):
        value, usual = getattr(plan, f.name), getattr(plain, f.name)
        same = value is usual or (not is_dataclass(value) and np.all(np.asarray(value == usual)))
        if same or f.name == "kv":
            continue
        shown = f"{value:g}" if isinstance(value, float) else str(value)
        out.append(f"{f.name}={shown}" if f.name in ("tp", "pp", "dp", "ep") else f"{f.name} {shown}")
    kv = plan.kv
    if kv.key is not None:
        out.append(f"kv {kv.key}")
    return ", ".join(out) or "one device, formats of the checkpoint"
