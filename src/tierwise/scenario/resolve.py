"""From what a user wrote to values: names looked up, a plan chosen, impossible degrees refused."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tierwise.core.errors import BadField
from tierwise.core.num import where
from tierwise.models.facts import depth, experts, heads
from tierwise.scenario.fields import MOST_SIDE
from tierwise.scenario.legality import check_plan, cuts
from tierwise.scenario.types import Batch, Plan, Resolved, Scenario

__all__ = ["check_machine", "check_plan", "check_traffic", "default_plan", "describe", "resolve"]

MOST = 1e9  # tokens, requests, images: a thousand times what anything has, and no sum of them overflows

if TYPE_CHECKING:
    from tierwise.core.numerics import Format
    from tierwise.machines.types import System
    from tierwise.models.types import Model


def resolve(scenario: Scenario) -> Resolved:
    """Names to values.

    Raises:
        UnknownName: no such model or machine.
        BadField: a degree or size that cannot be.
    """
    from tierwise.machines import system
    from tierwise.models.load import load_model
    from tierwise.models.mixtures import stored_as

    _check("image_size", scenario.traffic.image_size, 1, MOST_SIDE)
    model = load_model(scenario.model, _side(scenario)) if isinstance(scenario.model, str) else scenario.model
    machine = system(scenario.machine) if isinstance(scenario.machine, str) else scenario.machine
    check_machine(machine)
    plan = scenario.plan if scenario.plan is not None else default_plan(model, machine)
    model = stored_as(model, plan.weights)
    check_traffic(scenario.traffic, model)
    check_plan(plan, model, machine)
    engine = scenario.engine or default_engine(model, machine, plan)
    if (published := _published(plan, model, engine)) is not plan:
        plan, model = published, stored_as(model, published.weights)
    if not machine.device.measured:
        plan = micro_batched(plan, engine)
    return Resolved(model, machine, scenario.traffic, plan, scenario.techniques, engine, scenario.applied)


def _published(plan: Plan, model: Model, engine: str) -> Plan:
    """The plan with the weights' format of the file that a checkpoint is published as for the engine, where nobody asks
    for another."""
    from tierwise import engines
    from tierwise.core.numerics import fmt

    name = engines.plain(engine)
    if plan.weights is not None or name not in engines.names():
        return plan
    form = engines.load(name).files.get(str(model.format_of("expert")))
    return plan if form is None else replace(plan, weights=fmt(form))


def _side(scenario: Scenario) -> float | None:
    """The image's size, where it is one number."""
    size = scenario.traffic.image_size
    return float(size) if isinstance(size, (int, float)) else None


def default_engine(model: Model, machine: System, plan: Plan) -> str:
    """The software that runs a model where nobody names one: of a machine that was measured, what it was measured with;
    for text on a device of a family that an engine's file says it is usual on, that engine; on another GPU, vLLM where
    it is documented to run and else a typical engine. An eager framework's code runs by
    itself, and so does what no serving engine is known to run: its kernels are priced alone."""
    from tierwise import engines

    device = machine.device
    if device.measured:
        return next(iter(device.measured))
    decodes = model.task == "generate" and all(s.stream in ("text", "vision", "clip") for s in model.stacks)
    if plan.framework or not decodes:
        return engines.KERNELS
    if own := engines.usual(device.family):
        return own
    if device.kind != "gpu":
        return engines.KERNELS
    first = engines.load(engines.DEFAULT)
    return first.name if first.runs_on(device.kind, device.family) else engines.TYPICAL


def micro_batched(plan: Plan, engine: str) -> Plan:
    """The plan with prompts cut as the engine cuts them, where its own largest step is smaller than the usual one and
    nobody asked for another."""
    from tierwise import engines

    name = engines.plain(engine)
    if name not in engines.names() or engines.load(name).budget >= Plan().chunk:
        return plan
    asked = np.asarray(plan.chunk) < Plan().chunk
    return replace(plan, chunk=where(asked, plan.chunk, float(engines.load(name).budget)))


def check_machine(machine: System) -> None:
    """Refuse what cannot run a model: disks, network cards and bare memory compute nothing."""
    device = machine.device
    if not device.engines or not any(t.kind == "memory" for t in device.tiers):
        lacks = "engines" if not device.engines else "tiers of kind memory"
        allowed = f"a device that computes and has memory; this one has no {lacks}"
        raise BadField(machine.name, "kind", device.kind, allowed)


def default_plan(model: Model, machine: System, weights: Format | None = None, **given: float) -> Plan:
    """A plan that uses every device: tensor parallel inside a node, pipeline between nodes.

    Degrees already ``given`` are kept and the rest follows: expert parallelism over more devices than ``tp``
    makes the rest data parallel. Tensor parallelism stops at what the heads and the blocks of quantized weights can
    be divided by (experts stay whole, by expert parallelism, where only theirs cannot); devices left over become data
    parallel.

    Args:
        weights: format of the linear weights, where it is not the checkpoint's own.
    """
    for name, degree in given.items():
        values = np.asarray(degree, dtype=float)
        if not np.all((values >= 1) & (values == np.floor(values)) & (values < 2.0**31)):
            raise BadField("plan", name, degree, "whole numbers of at least 1")
    tp, pp, dp, ep = (given.get(k) for k in ("tp", "pp", "dp", "ep"))
    count = machine.count
    if tp is None:
        if ep is not None and ep > 1 and dp is None:
            tp = 1
        else:
            room = count // int((pp or 1) * (dp or 1))
            tp = max(d for d in range(1, max(room, 1) + 1) if room % d == 0 and d <= machine.per_node
                     and _divides(model, d, weights, ep))  # fmt: skip
    if pp is None:
        left = count // int(tp * (dp or 1))
        across = machine.nodes if ep is None and dp is None else 1
        pp = across if across and left % max(across, 1) == 0 and depth(model) >= across else 1
    if dp is None:
        dp = max(count // int(tp * pp), 1)
    if ep is None and experts(model) is not None and not _whole(model, tp, 1.0, weights):
        ep = tp
    return Plan(tp=float(tp), pp=float(pp), dp=float(dp), ep=float(ep or 1))


def _divides(model: Model, degree: int, weights: Format | None, ep: float | None) -> bool:
    whole = heads(model)
    if whole is not None and np.any(whole % degree != 0):
        return False
    routed = experts(model)
    spread = routed is not None and ep is None and bool(np.all(np.asarray(routed) >= degree))
    return _whole(model, degree, ep or 1.0, weights) or (spread and _whole(model, degree, degree, weights))


def _whole(model: Model, tp: float, ep: float, weights: Format | None) -> bool:
    """Whether every part of a quantized matrix holds whole blocks."""
    return not cuts(Plan(tp=float(tp), ep=float(ep), weights=weights), model)


def check_traffic(traffic: Batch, model: Model) -> None:
    """Refuse sizes that cannot be."""
    for name, least in (("prompt", 1), ("output", 1), ("batch", 1), ("images", 0)):
        value = getattr(traffic, name)
        if isinstance(value, str):
            if name != "batch" or value != "max":
                raise BadField("traffic", name, value, "a number" + (' or "max"' if name == "batch" else ""))
            continue
        _check(name, value, least, MOST)


def _check(name: str, value: Any, least: float, most: float) -> None:
    values = np.asarray(least if value is None else value, dtype=float)
    if not np.all((values >= least) & (values <= most)):
        raise BadField("traffic", name, value, f"numbers from {least} to {most:,.0f}")


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
