"""Idealisations: what a machine would do if nothing but its datasheet counted."""

from __future__ import annotations

from dataclasses import replace

from tierwise.scenario.types import Scenario
from tierwise.techniques._make import Technique


def roofline() -> Technique:
    """One engine and one memory at datasheet rates, as the roofline model has it (Williams, Waterman and
    Patterson, 2009): no caches, tiles, launches, latencies, or memory kept by the runtime."""

    def technique(s: Scenario) -> Scenario:
        machine = s.resolved().machine
        device = machine.device
        ideal = machine.with_device(
            name=f"{device.name} (roofline)",
            family="roofline",
            tiers=tuple(replace(t, latency=0.0) for t in device.tiers if t.kind not in ("cache", "scratchpad")),
            engines=tuple(replace(e, units=1, tiles=()) for e in device.engines),
            dispatch=replace(device.dispatch, eager=0.0, graph=0.0),
            reserve=0.0,
        )
        return replace(s, machine=ideal, techniques=(*s.techniques, "roofline"))

    return technique
