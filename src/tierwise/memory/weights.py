"""Bytes of weights on the fullest device, by role; what a plan places elsewhere is not on it."""

from __future__ import annotations

import numpy as np

from tierwise.core.num import Num, ceil_div, is_zero, maximum, scalar
from tierwise.models.step import LINEAR_ROLES, Step
from tierwise.models.types import Block, Model, Stack, Weight
from tierwise.scenario.types import Plan


def weight_bytes(model: Model, plan: Plan) -> dict[str, Num]:
    """Bytes of weights on one device, by role: the fullest pipeline stage, formats and sharding applied."""
    step = Step(model, plan, 1.0, 1.0, 0.0, "decode")
    out: dict[str, Num] = {}
    for stack in model.stacks:
        if not stack.active and not plan.mtp:
            continue
        stages = plan.pp if stack.stream == "text" else 1.0
        depth = float(max(stack.depth, 1))
        held = ceil_div(depth, stages) / depth
        for kind, n in stack.runs():
            for w in kind.weights():
                _add(out, w.role, held * (n / kind.copies) * _local(step, w))
        for role, size in _ends(step, stack).items():
            _add(out, role, size)
    return out


def _ends(step: Step, stack: Stack) -> dict[str, Num]:
    """Weights before and after the layers: the first stage holds one end, the last the other."""

    def total(blocks: tuple[Block, ...]) -> dict[str, Num]:
        out: dict[str, Num] = {}
        for block in blocks:
            for w in block.weights():
                _add(out, w.role, _local(step, w))
            tied = block.facts().tied
            if not is_zero(tied) and not np.all(np.asarray(step.plan.pp) <= 1):
                # A tied head on another stage than the embedding needs its own copy.
                _add(out, "head", tied * step.weight("head").bytes / step.plan.tp)
        return out

    first, last = total(stack.before), total(stack.after)
    one = np.asarray(step.plan.pp) <= 1
    sizes = [sum(x.values(), 0.0) for x in (first, last)]
    out: dict[str, Num] = {}
    for x, mine, other in ((first, sizes[0], sizes[1]), (last, sizes[1], sizes[0])):
        keep = np.where(one | (np.asarray(mine) >= np.asarray(other)), 1.0, 0.0)
        for role, size in x.items():
            _add(out, role, scalar(size * keep))
    return out


def _local(step: Step, w: Weight) -> Num:
    """Bytes of a weight on one device."""
    plan = step.plan
    if w.split == "tp":
        pieces = w.elements / w.grain if not np.all(np.asarray(w.grain) == 0) else None
        elements = w.elements / plan.tp if pieces is None else ceil_div(pieces, plan.tp) * w.grain
    elif w.split == "ep":
        local = ceil_div(w.elements / w.grain, plan.ep) * w.grain
        elements = local / maximum(plan.tp / plan.ep, 1.0)
    else:
        elements = w.elements
    density = step.density(w.role) if w.role in LINEAR_ROLES else 1.0
    return elements * density * step.weight(w.role).bytes * plan.placement.at_home(w.role, "weights")


def _add(out: dict[str, Num], role: str, size: Num) -> None:
    out[role] = out.get(role, 0.0) + size
