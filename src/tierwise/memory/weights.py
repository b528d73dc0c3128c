"""Bytes of weights on each pipeline stage's devices, by role; what a plan places elsewhere is not on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tierwise.core.num import Num, ceil_div, is_zero, maximum, where
from tierwise.memory.stages import ByStage, ends, fullest, layers, pick, plus
from tierwise.models.lora import adapter_bytes
from tierwise.models.step import Step
from tierwise.models.types import Block, Model, Weight
from tierwise.scenario.types import Plan

# Role of the buffers that adapters are loaded into.
ADAPTERS = "LoRA adapters"


def weight_bytes(model: Model, plan: Plan, rule: str = "middle") -> dict[str, Num]:
    """Bytes of weights on one device, by role: those of the stage that has most, formats and sharding applied.

    Args:
        rule: by which layers are dealt to stages, see :mod:`tierwise.memory.stages`.
    """
    found = stage_weights(model, plan, rule)
    return of_stage(found, fullest(together(found)))


def stage_weights(
    model: Model, plan: Plan, rule: str = "middle", node: str = "", padded: Mapping[str, tuple[int, int]] | None = None
) -> dict[str, ByStage]:  # fmt: skip
    """The same of every stage, by role.

    Args:
        node: whose part of them; ``""`` is the device's main memory.
        padded: by format, what experts' (outer, inner) widths on a device are rounded up to.
    """
    step = Step(model, plan, 1.0, 1.0, 0.0, "decode")
    first, last = ends(plan.pp)
    out: dict[str, ByStage] = {}
    for stack in model.stacks:
        if not stack.active and not plan.mtp:
            continue
        for kind, counts in zip(stack.kinds, layers(stack, plan.pp, rule), strict=True):
            there = plan.placement.of(kind.name)
            for w in kind.weights():
                _add(out, w.role, counts,
                     _local(step, w) * _padding(step, w, padded) * there.share(node, w.role, "weights") / kind.copies)
                if not is_zero(plan.adapters):
                    _add(out, ADAPTERS, counts, adapter_bytes(plan, w) / kind.copies)
        text = stack.stream == "text"
        for blocks, here in ((stack.before, first), (stack.after, last if text else first)):
            for block in blocks:
                _ends(out, step, block, here, node)
    return out


def together(by_role: Mapping[str, ByStage], but: tuple[str, ...] = ()) -> ByStage:
    """Bytes of all roles ``but`` some, of every stage."""
    values = [x for role, x in by_role.items() if role not in but]
    return [sum(each, 0.0) for each in zip(*values, strict=True)] or [0.0]


def of_stage(by_role: Mapping[str, ByStage], stage: Any) -> dict[str, Num]:
    """Bytes by role of one stage, whose number may be an array."""
    return {role: pick(values, stage) for role, values in by_role.items()}


def _ends(out: dict[str, ByStage], step: Step, block: Block, here: ByStage, node: str) -> None:
    """Weights before or after the layers, on the stage where they stand."""
    places = step.plan.placement
    for w in block.weights():
        _add(out, w.role, here, _local(step, w) * places.share(node, w.role, "weights"))
        if not is_zero(step.plan.adapters) and not node and not is_zero(adapters := adapter_bytes(step.plan, w)):
            _add(out, ADAPTERS, here, adapters)
    tied = block.facts().tied
    elsewhere = bool(places.fractions("embed")) and not node
    if not is_zero(tied) and not node and (elsewhere or not np.all(np.asarray(step.plan.pp) <= 1)):
        # A tied head on another stage or node than the embedding needs its own copy.
        apart = where((np.asarray(step.plan.pp) > 1) | elsewhere, 1.0, 0.0)
        _add(out, "head", here, apart * tied * step.weight("head").bytes / step.plan.tp)


def local_elements(plan: Plan, w: Weight) -> Num:
    """Elements of a weight that one device's share of the work needs, wherever they lie: whole heads and experts."""
    if w.split == "tp":
        pieces = w.elements / w.grain if not np.all(np.asarray(w.grain) == 0) else None
        return w.elements / plan.tp if pieces is None else ceil_div(pieces, plan.tp) * w.grain
    if w.split == "ep":
        return ceil_div(w.elements / w.grain, plan.ep) * w.grain / maximum(plan.tp / plan.ep, 1.0)
    return w.elements


def _local(step: Step, w: Weight) -> Num:
    """Bytes of the same."""
    return local_elements(step.plan, w) * step.density(w.role) * step.weight(w.role).bytes


def _padding(step: Step, w: Weight, padded: Mapping[str, tuple[int, int]] | None) -> Num:
    """What an expert takes with its widths on a device rounded up, over what it takes as it is."""
    multiples = (padded or {}).get(str(step.weight(w.role).name))
    if w.role != "expert" or w.sides is None or multiples is None:
        return 1.0
    outer, inner = w.sides
    part = inner / maximum(step.plan.tp / step.plan.ep, 1.0)
    sizes = ceil_div(outer, multiples[0]) * multiples[0] * (ceil_div(part, multiples[1]) * multiples[1])
    return sizes / (outer * part)


def _add(out: dict[str, ByStage], role: str, counts: ByStage, size: Num) -> None:
    more = [count * size for count in counts]
    out[role] = plus(out[role], more) if role in out else more
