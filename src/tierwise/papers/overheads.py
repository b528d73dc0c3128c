"""What a technique costs beside what it saves, taken away: for the engine on which techniques are free.

What is known of a scenario's plan and model: scales, zeros and indexes beside the bits of a number; tokens kept in
full; keys read to choose among them; tables added to the model; values fetched from the host.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

from tierwise.core.numerics import Format
from tierwise.models.blocks.common import Extra
from tierwise.models.types import Block, Layer, Model
from tierwise.scenario.types import KV, Plan, Scenario


def without(before: Scenario, after: Scenario) -> Scenario:
    """The scenario after a technique, without what the technique added to that before it."""
    if before is after:
        return after
    old, new = before.resolved(), after.resolved()
    plan = new.plan if after.plan is None else _plan(old.plan, after.plan)
    model = new.model if new.model is old.model else _model(old.model, new.model)
    return replace(after, plan=plan, model=model)


def _plan(old: Plan, new: Plan) -> Plan:
    return replace(
        new,
        weights=_bare(old.weights, new.weights),
        activations=_bare(old.activations, new.activations),
        kv=_kv(old.kv, new.kv),
    )


def _kv(old: KV, new: KV) -> KV:
    nothing = {name: 0.0 for name in ("residual", "window", "selector") if getattr(new, name) is not getattr(old, name)}
    return replace(new, key=_bare(old.key, new.key), value=_bare(old.value, new.value), **nothing)  # type: ignore[arg-type]


def _bare(old: Format | None, new: Format | None) -> Format | None:
    return new if new is None or new is old else replace(new, meta=0.0)


def _model(old: Model, new: Model) -> Model:
    formats = {role: _bare(old.formats.get(role), f) or f for role, f in new.formats.items()}
    had = {b for s in old.stacks for k in s.kinds for b in k.blocks if isinstance(b, Extra)}

    def layer(k: Layer) -> Layer:
        kept = tuple(_block(b) for b in k.blocks if not isinstance(b, Extra) or b in had)
        return replace(k, blocks=kept)

    stacks = tuple(replace(s, kinds=tuple(layer(k) for k in s.kinds)) for s in new.stacks)
    return replace(new, stacks=stacks, formats=formats)


def _block(block: Block) -> Block:
    """A block that fetches from the host hits always."""
    known: Any = block
    if is_dataclass(block) and any(f.name == "hit" for f in fields(block)):
        return replace(known, hit=1.0)
    return block
