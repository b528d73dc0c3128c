"""How techniques are made: change the plan or the model, and leave one's name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias

from tierwise.models.types import Model
from tierwise.scenario.types import KV, Plan, Scenario

Technique: TypeAlias = Callable[[Scenario], Scenario]


def on_plan(name: str, change: Callable[[Plan], Plan]) -> Technique:
    """A technique that changes the plan."""

    def technique(s: Scenario) -> Scenario:
        plan = s.plan if s.plan is not None else s.resolved().plan
        return replace(s, plan=change(plan), techniques=(*s.techniques, name))

    return technique


def on_kv(name: str, **changes: Any) -> Technique:
    """A technique that changes how the KV cache is stored or read."""

    def change(plan: Plan) -> Plan:
        kv: KV = replace(plan.kv, **changes)
        return replace(plan, kv=kv)

    return on_plan(name, change)


def on_model(name: str, change: Callable[[Model], Model]) -> Technique:
    """A technique that changes the model."""

    def technique(s: Scenario) -> Scenario:
        r = s.resolved()
        return replace(s, model=change(r.model), plan=s.plan, techniques=(*s.techniques, name))

    return technique
