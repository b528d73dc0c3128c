"""What one more trick would give a training layout: each change by itself, priced like any layout."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tierwise.machines.types import System
from tierwise.models.types import Model
from tierwise.training.layout import legal, pipelines
from tierwise.training.step import TrainStep, train_step
from tierwise.training.work import decoder

# Gains that are told at least; less is below what two equal runs differ by.
LEAST = 0.005


@dataclass(frozen=True)
class Trick:
    """A change of a layout.

    Attributes:
        what: a schedule, a field of the layout that is set, ``recompute`` (none of it), or a number format.
        gain: how much faster a step is.
    """

    what: str
    gain: float
    fits: bool


def tricks(model: Model, system: System, step: TrainStep, seconds: float) -> tuple[Trick, ...]:
    """Changes that make a step faster, the largest gain first.

    Args:
        seconds: that the step takes.
    """
    x, how = step.layout, step.how
    changed = {
        name: replace(x, schedule=float(i), interleave=1.0)
        for i, name in enumerate(pipelines())
        if i and float(np.asarray(x.schedule)) != i
    }
    changed["vocabulary"] = replace(x, vocabulary=1.0)
    changed["asynchronous"] = replace(x, asynchronous=1.0)
    changed["recompute"] = replace(x, recompute=0.0)
    text = decoder(model)
    heads = [float(np.asarray(b.facts().heads)) for k in text.kinds for b in k.blocks if b.facts().heads]
    steps = {
        what: train_step(model, system, other, how)
        for what, other in changed.items()
        if bool(legal(other, float(text.depth), min(heads, default=1.0), system.per_node))
    }
    fp8 = train_step(model, system, x, replace(how, recipe=replace(how.recipe, precision="fp8")))
    if not how.recipe.low and np.any(np.asarray(fp8.peak) > np.asarray(step.peak)):
        steps["fp8"] = fp8
    found = [Trick(k, seconds / float(np.asarray(s.time)) - 1.0, bool(s.memory.fits)) for k, s in steps.items()]
    return tuple(sorted((t for t in found if t.gain >= LEAST), key=lambda t: -t.gain))
