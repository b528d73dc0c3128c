"""What would help: a scenario's neighbours, evaluated and put in words."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from tierwise.core.errors import TierwiseError
from tierwise.core.num import num
from tierwise.core.numerics import fmt
from tierwise.core.units import dollars, gb, seconds
from tierwise.evaluation import evaluate, largest_batch
from tierwise.machines.types import System
from tierwise.result import Result
from tierwise.scenario.resolve import default_plan
from tierwise.scenario.types import Resolved, Scenario

# A change is worth a line when it moves the rate by more than this; smaller ones drown in the interval.
_WORTH = 1.05


@dataclass(frozen=True)
class Advice:
    """One neighbour of a scenario.

    Attributes:
        title: the change, as an imperative ("batch 64").
        text: what it brings, in one sentence.
        time_ratio: step (or run) time over the present one.
        rate_ratio: tokens (or requests) per second over the present one.
        scenario: the neighbour itself.
    """

    title: str
    text: str
    time_ratio: float
    rate_ratio: float
    scenario: Scenario

    def as_dict(self) -> dict[str, object]:
        return {"title": self.title, "text": self.text, "time_ratio": self.time_ratio, "rate_ratio": self.rate_ratio}


def advise(result: Result, most: int = 4) -> list[Advice]:
    """The best few changes to a scalar scenario: for one that fits, what speeds it up; for one that does not,
    the nearest plans that fit."""
    if not result.fits:
        return list(_ways_to_fit(result))[:most]
    found = []
    for title, scenario in _neighbours(result.scenario, float(result.batch)):
        try:
            other = evaluate(scenario)
        except TierwiseError:
            continue
        if not other.fits:
            continue
        found.append(_advice(title, result, other, scenario))
    worth = [a for a in found if a.rate_ratio > _WORTH]
    return _ranked(worth, most)


def _ranked(found: list[Advice], most: int) -> list[Advice]:
    """Batching first (it is free), then by what it brings."""
    return sorted(found, key=lambda a: (not a.title.startswith("batch"), -a.rate_ratio))[:most]


def _advice(title: str, base: Result, other: Result, scenario: Scenario) -> Advice:
    rate = float(other.throughput) / float(base.throughput)
    if base.has("decode"):
        time = float(other.tpot) / float(base.tpot)
        text = (
            f"{time:.2g}× the step time ({seconds(float(base.tpot))} → "
            f"{seconds(float(other.tpot))}) for {rate:.2g}× the tokens a second"
        )
    else:
        time = float(other.time) / float(base.time)
        text = f"{time:.2g}× the time for {rate:.2g}× the requests a second"
    a, b = float(base.cost_per_million), float(other.cost_per_million)
    unit = "million tokens" if base.has("decode") else "million requests"
    money = f"; {dollars(a)} → {dollars(b)} per {unit}" if math.isfinite(a) and math.isfinite(b) else ""
    return Advice(title, f"{text}{money}.", time, rate, scenario)


def _scenario(r: Resolved, **changes: object) -> Scenario:
    base = Scenario(r.model, r.machine, r.traffic, r.plan, r.techniques)
    return replace(base, **changes)  # type: ignore[arg-type]


def _neighbours(r: Resolved, batch: float) -> Iterator[tuple[str, Scenario]]:
    """One change at a time."""
    plan, traffic = r.plan, r.traffic
    if not isinstance(traffic.batch, str):
        best = float(num(largest_batch(r)))
        double = batch * 2.0
        if double <= best:
            yield f"batch {double:.0f}", _scenario(r, traffic=replace(traffic, batch=double))
    weights = plan.weights or r.model.format_of("mlp")
    wide = (plan.activations or r.model.activations).bits
    if float(num(wide)) > 16:
        half = fmt("bf16")
        yield "half precision (bf16) throughout", _scenario(r, plan=replace(plan, weights=half, activations=half))
    for name in ("fp8", "int4-g128"):
        if float(num(fmt(name).bits)) < float(num(weights.bits)):
            yield f"weights in {name}", _scenario(r, plan=replace(plan, weights=fmt(name)))
    key = plan.kv.key or r.model.kv_format or r.model.activations
    if r.model.task == "generate" and float(num(key.bits)) > 8:
        kv = replace(plan.kv, key=fmt("fp8"), value=fmt("fp8"))
        yield "KV cache in fp8", _scenario(r, plan=replace(plan, kv=kv))
    bigger = _doubled(r.machine)
    if bigger is not None:
        wider = default_plan(r.model, bigger)
        kept = replace(plan, tp=wider.tp, pp=wider.pp, dp=wider.dp)
        yield f"{bigger.count} devices (tp={wider.tp:g}, pp={wider.pp:g}, dp={wider.dp:g})", _scenario(
            r, machine=bigger, plan=kept
        )


def _doubled(machine: System) -> System | None:
    """Twice the devices of the same node, or None when there is no link to put them on."""
    count = machine.count * 2
    link = machine.scale_up or machine.device.link("scale-up")
    if link is None or count > max(link.domain, machine.per_node):
        return None
    return replace(machine, name=f"{count}x{machine.device.name}", count=count, per_node=count, scale_up=link)


def _ways_to_fit(result: Result) -> Iterator[Advice]:
    """The nearest changes that make it fit, cheapest first."""
    r = result.scenario
    plan, traffic = r.plan, r.traffic
    options: list[tuple[str, Scenario]] = []
    if not isinstance(traffic.batch, str):
        best = float(num(largest_batch(r)))
        if best >= 1:
            options.append((f"batch {best:.0f}", _scenario(r, traffic=replace(traffic, batch=best))))
    kv = replace(plan.kv, key=fmt("fp8"), value=fmt("fp8"))
    for name in ("fp8", "int4-g128"):
        options.append((f"weights in {name}", _scenario(r, plan=replace(plan, weights=fmt(name)))))
    narrow = replace(plan, weights=fmt("int4-g128"), kv=kv)
    machine = r.machine
    for _ in range(8):
        wider = _doubled(machine) or _more_nodes(machine)
        if wider is None:
            break
        machine = wider
        base = default_plan(r.model, machine)
        spread = replace(plan, tp=base.tp, pp=base.pp, dp=base.dp)
        title = f"{machine.count} devices (tp={base.tp:g}, pp={base.pp:g}, dp={base.dp:g})"
        options.append((title, _scenario(r, machine=machine, plan=spread)))
    options.append(("weights in int4-g128 and KV cache in fp8", _scenario(r, plan=narrow)))
    wider_found = False
    for title, scenario in options:
        if "devices" in title and wider_found:
            continue
        try:
            other = evaluate(scenario)
        except TierwiseError:
            continue
        if other.fits:
            wider_found = wider_found or "devices" in title
            text = (
                f"fits: {gb(float(other.memory.peak))} of {gb(other.memory.capacity)} on each device, "
                f"{seconds(float(other.time))} for the batch."
            )
            yield Advice(title, text, float("nan"), float("nan"), scenario)


def _more_nodes(machine: System) -> System | None:
    if machine.scale_out is None and machine.device.link("scale-out") is None:
        return None
    count = machine.count * 2
    return replace(machine, name=f"{count}x{machine.device.name}", count=count,
                   scale_out=machine.scale_out or machine.device.link("scale-out"))  # fmt: skip
