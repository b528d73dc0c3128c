"""Closed forms of pipelines: seconds of all micro-batches from those of one, without playing them.

A schedule of a training pipeline has, beside ``order``, a function ``span(passes) -> Num`` (seconds from the first
start to the last end), a function ``held(stages, parts, micro_batches, at) -> Num`` (micro-batches whose activations
a stage holds at once, of its whole share of the layers; ``at`` is 0 on the first stage and 1 on the last), and
:class:`Shape` as ``SHAPE``. Closed forms rank many layouts; what is answered has been played.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import cast

import numpy as np

from tierwise.core.num import Num, maximum, where


@dataclass(frozen=True)
class Passes:
    """Seconds of one micro-batch on the first, a middle and the last stage.

    Attributes:
        stages, micro_batches: how many. ``parts``: of the model on each stage.
        forward: forward pass. ``inputs``: gradients of inputs, with what is recomputed for them. ``weights``: gradients
            of weights.
        hidden: what a forward and a backward pass take less when they run together.
    """

    stages: Num
    micro_batches: Num
    parts: Num
    forward: tuple[Num, Num, Num]
    inputs: tuple[Num, Num, Num]
    weights: tuple[Num, Num, Num]
    hidden: Num = 0.0

    @property
    def totals(self) -> tuple[Num, Num, Num]:
        """Both passes of each stage."""
        first, middle, last = (sum(x, 0.0) for x in zip(self.forward, self.inputs, self.weights, strict=True))
        return first, middle, last

    @property
    def slowest(self) -> Num:
        return largest(self.stages, self.totals)

    def over(self, values: tuple[Num, Num, Num]) -> Num:
        """The sum over all stages."""
        first, middle, last = values
        return where(np.asarray(self.stages) <= 1, first, first + last + maximum(self.stages - 2.0, 0.0) * middle)


@dataclass(frozen=True)
class Shape:
    """How a schedule lays the model on its stages.

    Attributes:
        parts: of the model on each stage, where the schedule says so; 0 where it is free.
        ends: shares of the work before the layers, and behind them, on the first stage and on the last one.
        holds: the same of their parameters.
        copies: of the layers' parameters in the pipeline.
        least: micro-batches at least, in stages. ``even``: stages and micro-batches are even numbers.
    """

    parts: float = 0.0
    ends: tuple[tuple[float, float], tuple[float, float]] = ((1.0, 0.0), (0.0, 1.0))
    holds: tuple[tuple[float, float], tuple[float, float]] = ((1.0, 0.0), (0.0, 1.0))
    copies: float = 1.0
    least: float = 0.0
    even: bool = False


@dataclass(frozen=True)
class Closed:
    """The closed forms of one schedule."""

    span: Callable[[Passes], Num]
    held: Callable[[Num, Num, Num, Num], Num]
    shape: Shape


def largest(stages: Num, values: tuple[Num, Num, Num]) -> Num:
    """Over the stages there are: no middle one of two, and one that is all of them of one."""
    first, middle, last = values
    n = np.asarray(stages)
    both = maximum(first, last)
    return where(n <= 1, first, where(n <= 2, both, maximum(both, middle)))


@cache
def pipelines() -> Mapping[str, Closed]:
    """Every schedule with closed forms by name; one forward, one backward comes first."""
    from tierwise.schedule import schedules

    names = sorted(schedules(), key=lambda name: (name != "one_f_one_b", name))
    modules = {name: importlib.import_module(f"tierwise.schedule.{name}") for name in names}
    return {
        name: Closed(module.span, module.held, cast(Shape, module.SHAPE))
        for name, module in modules.items()
        if hasattr(module, "span")
    }
