"""What would help: a scenario's neighbours, evaluated. Data only; ``report/advice.py`` puts it in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import numpy as np

from tierwise.comparison import Comparison
from tierwise.core.errors import TierwiseError
from tierwise.core.num import num
from tierwise.core.numerics import Format, fmt
from tierwise.evaluation import evaluate, largest_batch, longest_prompt
from tierwise.machines import several, system
from tierwise.machines.types import System
from tierwise.result import Result
from tierwise.scenario.resolve import default_plan
from tierwise.scenario.types import Resolved, Scenario

# Formats that are tried, widest first: one most devices compute in, one that halves it again.
NARROWER = ("fp8", "int4-g128")
# Formats that are tried besides where a scenario does not fit otherwise: they cost quality that can be noticed.
NARROWEST = ("q3_k", "q2_k")
# A change that brings less is not worth making, however sure it is.
WORTH = 1.05
# Larger machines that are tried.
MACHINES = 6
# Cards of a host at most, where they have no links of their own.
IN_A_HOST = 8
# How often the devices are doubled in search of room: to 256 times as many.
DOUBLINGS = 8


@dataclass(frozen=True)
class FieldChange:
    """One field of a scenario that is another.

    Attributes:
        field: its path, such as ``traffic.batch``, ``plan.weights`` or ``machine.count``.
        before, after: a number, or the name of a format.
    """

    field: str
    before: float | str
    after: float | str


@dataclass(frozen=True)
class Advice:
    """A neighbour of a scenario that is worth a look.

    Attributes:
        kind: what is changed: ``batch``, ``precision`` (weights and activations), ``weights``, ``kv``,
            ``weights and kv``, ``context``, ``weights and context``, ``devices`` or another ``machine``.
        aim: ``faster``, or ``fits`` where the scenario itself does not.
        changes: every field that is another, the one that gives the advice its name first.
        timed: what ``time`` is of: a decode ``step``, or the whole ``run``.
        time: seconds of it, before and after.
        rate_ratio: tokens (or requests) per second over the present ones; ``rate_interval``: 80 % interval of that.
            nan where the scenario itself does not run.
        cost: dollars per million tokens (requests), before and after; nan where no rent is known.
        peak, capacity: bytes of the fullest device, after.
        scenario: the neighbour itself.
    """

    kind: str
    aim: str
    changes: tuple[FieldChange, ...]
    timed: str
    time: tuple[float, float]
    rate_ratio: float
    rate_interval: tuple[float, float]
    cost: tuple[float, float]
    peak: float
    capacity: float
    scenario: Scenario

    @property
    def time_ratio(self) -> float:
        """Time over the present one; nan where the scenario itself does not run."""
        return self.time[1] / self.time[0]


# kind, changed fields, the scenario that has them
Neighbour = tuple[str, tuple[FieldChange, ...], Scenario]


def advise(result: Result, most: int = 4) -> list[Advice]:
    """The best few changes to a scalar scenario: for one that fits, what speeds it up; for one that does not,
    the nearest plans that fit.

    A change is worth telling when it speeds the scenario up by more than the interval of that ratio covers.
    """
    if not result.fits:
        return list(_ways_to_fit(result))[:most]
    tried = (_tried(result, neighbour) for neighbour in _neighbours(result.scenario, float(result.batch)))
    worth = [a for a in tried if a is not None and a.rate_interval[0] > 1.0 and a.rate_ratio >= WORTH]
    # Batching first: it is free.
    return sorted(worth, key=lambda a: (a.kind != "batch", -a.rate_ratio))[:most]


def _tried(base: Result, neighbour: Neighbour | None) -> Advice | None:
    """A neighbour evaluated; None when it cannot run or does not fit."""
    if neighbour is None:
        return None
    try:
        return _compared(base, *neighbour)
    except TierwiseError:
        return None


def _compared(base: Result, kind: str, changes: tuple[FieldChange, ...], scenario: Scenario) -> Advice | None:
    """What a neighbour brings; None when it does not fit."""
    other = evaluate(scenario)
    if not other.fits:
        return None
    unknown = float("nan")
    decodes = base.has("decode")
    before, after = ((float(r.tpot if decodes else r.time)) for r in (base, other))
    rate = Comparison(base, other).throughput if base.fits else None
    return Advice(
        kind=kind,
        aim="faster" if base.fits else "fits",
        changes=changes,
        timed="step" if decodes and base.fits else "run",
        time=(before, after) if base.fits else (unknown, float(other.time)),
        rate_ratio=float(rate) if rate is not None else unknown,
        rate_interval=(float(rate.low), float(rate.high)) if rate is not None else (unknown, unknown),
        cost=(float(base.cost_per_million) if base.fits else unknown, float(other.cost_per_million)),
        peak=float(other.memory.peak),
        capacity=float(other.memory.capacity),
        scenario=scenario,
    )


def _changed(r: Resolved, **changes: object) -> Scenario:
    return Scenario(**{f.name: getattr(r, f.name) for f in fields(r)} | changes)


def _neighbours(r: Resolved, batch: float) -> Iterator[Neighbour]:
    """One change at a time."""
    plan, traffic = r.plan, r.traffic
    if not isinstance(traffic.batch, str) and 2.0 * batch <= float(num(largest_batch(r))):
        yield _batch(r, batch, 2.0 * batch)
    weights, activations = _weights(r), plan.activations or r.model.activations
    if float(num(activations.bits)) > 16:
        half = fmt("bf16")
        changes = (FieldChange("plan.weights", str(weights), str(half)),
                   FieldChange("plan.activations", str(activations), str(half)))  # fmt: skip
        yield "precision", changes, _changed(r, plan=replace(plan, weights=half, activations=half))
    for name in NARROWER:
        if float(num(fmt(name).bits)) < float(num(weights.bits)):
            yield _narrower(r, name)
    if r.model.task == "generate" and float(num(_keys(r).bits)) > 8:
        kv = replace(plan.kv, key=fmt("fp8"), value=fmt("fp8"))
        yield "kv", (FieldChange("plan.kv", str(_keys(r)), "fp8"),), _changed(r, plan=replace(plan, kv=kv))
    wider = _more_in_a_node(r.machine)
    if wider is not None:
        yield _devices(r, wider)


def _ways_to_fit(result: Result) -> Iterator[Advice]:
    """The nearest plans that fit, those that change least first: of each kind of change the smallest that does."""
    for options in _options(result):
        found = next((x for x in (_tried(result, option) for option in options) if x is not None), None)
        if found is not None:
            yield found


def _options(result: Result) -> Iterator[Iterator[Neighbour]]:
    """Kinds of changes, each from the smallest on."""
    r = result.scenario
    bits = float(num(_weights(r).bits))
    narrower = [name for name in (*NARROWER, *NARROWEST) if float(num(fmt(name).bits)) < bits]
    yield _smaller_batch(r, float(result.batch))
    yield (_narrower(r, name) for name in narrower)
    yield (_devices(r, machine) for machine in _wider(r.machine))
    yield _shorter(r)
    yield (_other_machine(r, machine) for machine in _larger(result))
    yield (_narrower_with_cache(r, name) for name in narrower)
    yield (_shorter_and_narrower(r, name) for name in narrower)  # type: ignore[misc]


def _smaller_batch(r: Resolved, before: float) -> Iterator[Neighbour]:
    if not isinstance(r.traffic.batch, str) and (best := float(num(largest_batch(r)))) >= 1:
        yield _batch(r, before, best)


def _shorter(r: Resolved) -> Iterator[Neighbour]:
    """The longest prompt that fits."""
    if r.model.task != "generate" or isinstance(r.traffic.batch, str):
        return
    longest = float(num(longest_prompt(r)))
    if 1 <= longest < float(num(r.traffic.prompt)):
        change = FieldChange("traffic.prompt", float(num(r.traffic.prompt)), longest)
        yield "context", (change,), _changed(r, traffic=replace(r.traffic, prompt=longest))


def _shorter_and_narrower(r: Resolved, name: str) -> Neighbour | None:
    """Narrower weights, and the longest prompt that then fits."""
    narrow = replace(r, plan=replace(r.plan, weights=fmt(name)))
    found = next(_shorter(narrow), None)
    if found is None:
        return None
    changes = (FieldChange("plan.weights", str(_weights(r)), name), *found[1])
    return "weights and context", changes, found[2]


def _narrower_with_cache(r: Resolved, name: str) -> Neighbour:
    kv = replace(r.plan.kv, key=fmt("fp8"), value=fmt("fp8"))
    both = (FieldChange("plan.weights", str(_weights(r)), name), FieldChange("plan.kv", str(_keys(r)), "fp8"))
    return "weights and kv", both, _changed(r, plan=replace(r.plan, weights=fmt(name), kv=kv))


def _wider(machine: System) -> Iterator[System]:
    """Twice the devices, four times, ... as far as anything joins them."""
    wider: System | None = machine
    for _ in range(DOUBLINGS):
        wider = wider and (_more_in_a_node(wider) or _more_nodes(wider))
        if wider is None:
            return
        yield wider


def _larger(result: Result) -> Iterator[System]:
    """Other devices of the catalog with more memory, of the same kind first, the smallest that may do first."""
    from tierwise.machines import device
    from tierwise.machines.load import device_names

    own = result.scenario.machine.device
    weights = float(num(result.memory.weight_bytes)) * float(num(result.scenario.plan.devices))
    found = []
    for name in device_names():
        other = device(name)
        if other.engines and any(t.kind == "memory" for t in other.tiers):
            room = float(np.max(other.memory.capacity))
            if room > max(weights, float(np.max(own.memory.capacity))):
                found.append((other.kind != own.kind, other.vendor != own.vendor, room, name))
    for _, _, _, name in sorted(found)[:MACHINES]:
        yield system(name)


def _weights(r: Resolved) -> Format:
    return r.plan.weights or r.model.format_of("mlp")


def _keys(r: Resolved) -> Format:
    return r.plan.kv.key or r.model.kv_format or r.model.activations


def _batch(r: Resolved, before: float, after: float) -> Neighbour:
    return "batch", (FieldChange("traffic.batch", before, after),), _changed(r, traffic=replace(r.traffic, batch=after))


def _narrower(r: Resolved, name: str) -> Neighbour:
    change = FieldChange("plan.weights", str(_weights(r)), name)
    return "weights", (change,), _changed(r, plan=replace(r.plan, weights=fmt(name)))


def _devices(r: Resolved, machine: System) -> Neighbour:
    """The plan's choices on more devices, divided as that machine's default plan is."""
    wider = default_plan(r.model, machine)
    degrees = {name: getattr(wider, name) for name in ("tp", "pp", "dp")}
    changes = (
        FieldChange("machine.count", float(r.machine.count), float(machine.count)),
        *(FieldChange(f"plan.{n}", float(num(getattr(r.plan, n))), float(num(x))) for n, x in degrees.items()),
    )
    return "devices", changes, _changed(r, machine=machine, plan=replace(r.plan, **degrees))


def _other_machine(r: Resolved, machine: System) -> Neighbour:
    """One device of another kind, with the formats of the plan."""
    own = default_plan(r.model, machine, r.plan.weights)
    plan = replace(r.plan, tp=own.tp, pp=own.pp, dp=own.dp, ep=own.ep)
    change = FieldChange("machine", r.machine.name, machine.name)
    return "machine", (change,), _changed(r, machine=machine, plan=plan, engine="")


def _more_in_a_node(machine: System) -> System | None:
    """Twice the devices of the same node, or None when there is no link to put them on."""
    count = machine.count * 2
    link = machine.scale_up or machine.device.link("scale-up")
    if link is None and machine.device.kind == "gpu" and count <= IN_A_HOST:
        # Cards without links of their own talk over the host's bus, as far as slots go.
        return several(machine, count)
    if link is None or count > max(link.domain, machine.per_node):
        return None
    return replace(machine, name=f"{count}x{machine.device.name}", count=count, per_node=count, scale_up=link)


def _more_nodes(machine: System) -> System | None:
    """Twice the nodes, or None when nothing joins them."""
    link = machine.scale_out or machine.device.link("scale-out")
    if link is None:
        return None
    count = machine.count * 2
    return replace(machine, name=f"{count}x{machine.device.name}", count=count, scale_out=link)
