"""What a checkpoint of a step holds, and how long devices take to hand theirs over."""

from __future__ import annotations

import numpy as np

from tierwise.cost import price
from tierwise.machines.types import System
from tierwise.models.types import Model
from tierwise.program.types import Op
from tierwise.scenario.types import Plan
from tierwise.steps.price import KERNELS, engine_on
from tierwise.training.layout import Layout
from tierwise.training.memory import parameters, shaped_states
from tierwise.training.optimizers import SHAPED
from tierwise.training.step import TrainStep


def checkpoint(step: TrainStep, model: Model) -> float:
    """Bytes over all devices: optimizer states, which hold the weights in fp32, or the weights where they do not; each
    once, however many replicas there are. Of adapters, theirs alone."""
    recipe, x = step.how.recipe, step.layout
    each = recipe.states + (0.0 if recipe.master else recipe.parameters)
    if recipe.rank > 0:
        thin = sum((n * p.adapters for p, n in step.work.layers), 0.0) * x.tp
        return float(np.asarray(recipe.rank * thin)) * each
    if recipe.slices or recipe.prefix > 0:
        return each * float(np.asarray(sum((n * p.sliced for p, n in step.work.layers), 0.0) * x.tp))
    whole = Layout()
    sized = sum(shaped_states(model, whole, recipe), 0.0) * step.work.depth
    _, ends = parameters(model, whole)
    others = SHAPED[recipe.optimizer].others if recipe.optimizer in SHAPED else 0.0
    return each * float(np.asarray(model.parameters)) + float(np.asarray(sized + others * sum(ends.values())))


def consolidated(step: TrainStep, model: Model, storage: float) -> tuple[float, float]:
    """(bytes, seconds) of a file with the whole weights, put together from what devices wrote.

    One process reads every shard and writes each weight once, in the format of the working copy (adapters, and slices,
    by themselves).

    Args:
        storage: bytes a second that it reads and writes with.
    """
    recipe = step.how.recipe
    held = checkpoint(step, model)
    each = recipe.states + (0.0 if recipe.master else recipe.parameters)
    count = held / each if recipe.frozen and each > 0 else float(np.asarray(model.parameters))
    size = count * recipe.parameters
    return size, (held + size) / storage


def copied(system: System, step: TrainStep, model: Model) -> float:
    """Seconds in which all devices copy their shares to the hosts' memory; none where there is no link to a host."""
    if system.device.link("host") is None:
        return 0.0
    size = checkpoint(step, model) / float(system.count)
    ends = {"from": "", "to": "host"}
    op = Op("copy", "checkpoint", "copy", {"bytes": size}, 0.0, (), (), "", options=ends)
    on = engine_on(model, Plan(), system, KERNELS).target
    return float(np.asarray(price(op, on).time))
