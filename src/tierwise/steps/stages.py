"""How much longer the slowest stage of a pipeline takes than an even share: stages of unequal layers wait for it."""

from __future__ import annotations

import numpy as np

from tierwise.core.num import Num, maximum, scalar
from tierwise.memory.stages import ends, layers
from tierwise.models.types import Model
from tierwise.scenario.types import Plan
from tierwise.steps.cost import StepCost


def slowest(step: StepCost, model: Model, plan: Plan, rule: str = "middle") -> Num:
    """Time of the slowest stage over the mean of all, at least 1.

    Args:
        step: a pass over all layers. ``rule``: by which these are dealt to stages, see :mod:`tierwise.memory.stages`.
    """
    if np.all(np.asarray(plan.pp) <= 1):
        return 1.0
    stages = times(step, model, plan, rule)
    return scalar(maximum(plan.pp * maximum(*stages) / maximum(sum(stages, 0.0), 1e-300), 1.0))


def times(step: StepCost, model: Model, plan: Plan, rule: str = "middle") -> list[Num]:
    """Seconds of a pass on each stage; what they hand to each other left out."""
    spent: dict[str, Num] = {}
    for p in step.on_device:
        spent[p.segment.name] = spent.get(p.segment.name, 0.0) + p.time
    first, last = ends(plan.pp)
    stages: list[Num] = [spent.get("input", 0.0) * a + spent.get("output", 0.0) * b
                         for a, b in zip(first, last, strict=True)]  # fmt: skip
    for stack in model.stacks:
        if stack.stream != "text" or not stack.active:
            continue
        for i, (kind, counts) in enumerate(zip(stack.kinds, layers(stack, plan.pp, rule), strict=True)):
            each = spent.get(kind.name, 0.0) / max(stack.pattern.count(i), 1)
            stages = [x + n * each for x, n in zip(stages, counts, strict=True)]
    return stages
