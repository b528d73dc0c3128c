"""Idealisations: what a machine would do if nothing but its datasheet counted."""

from __future__ import annotations

from dataclasses import replace

from tierwise.core.num import is_zero
from tierwise.engines import KERNELS
from tierwise.scenario.types import Scenario
from tierwise.techniques._make import Technique, applied


def roofline() -> Technique:
    """One engine and one memory at datasheet rates, as the roofline model has it (Williams, Waterman and
    Patterson, 2009): no caches, tiles, launches, latencies, or memory kept by the runtime; kernels alone, whatever
    engine is asked for, with nothing between steps."""

    def technique(s: Scenario) -> Scenario:
        machine = s.resolved().machine
        device = machine.device
        kept = tuple(t for t in device.tiers if t.kind not in ("cache", "scratchpad"))
        matched = (
            ("caches", float(len(device.tiers) - len(kept))),
            ("latencies", float(sum(not is_zero(t.latency) for t in kept))),
            ("tile shapes", float(sum(bool(e.tiles) or not is_zero(e.units - 1.0) for e in device.engines))),
            ("launch times", float(not is_zero(device.dispatch.eager) or not is_zero(device.dispatch.graph))),
            ("reserves of memory", float(not is_zero(device.reserve))),
        )
        ideal = machine.with_device(
            name=f"{device.name} (roofline)",
            family="roofline",
            tiers=tuple(replace(t, latency=0.0) for t in kept),
            engines=tuple(replace(e, units=1, tiles=()) for e in device.engines),
            dispatch=replace(device.dispatch, eager=0.0, graph=0.0),
            reserve=0.0,
        )
        alone = replace(s, machine=ideal, engine=KERNELS)
        return applied(alone, "roofline", matched, machine.name, "it is already ideal")

    return technique
