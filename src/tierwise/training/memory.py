"""Bytes on the fullest device while a step runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tierwise.core.num import Num, ceil_div, maximum, minimum, where
from tierwise.machines.types import System
from tierwise.models.step import Step
from tierwise.models.types import Block, Model, Weight
from tierwise.training.layout import Layout
from tierwise.training.recipe import Framework
from tierwise.training.work import INPUT, OUTPUT, Work, plan_of


@dataclass(frozen=True)
class TrainMemory:
    """Bytes by role on a device of one pipeline stage.

    Attributes:
        stage: which, from 0.
        parts: bytes by role.
        capacity: what a device has, its driver's reserve left out.
        interval: factors on the peak that 80 % of measurements lie between.
    """

    stage: Num
    parts: Mapping[str, Num]
    capacity: Num
    interval: tuple[float, float] = (1.0, 1.0)

    @property
    def peak(self) -> Num:
        """Bytes allocated at the worst moment."""
        return sum(self.parts.values(), 0.0)

    @property
    def fits(self) -> NDArray[np.bool_]:
        return np.asarray(self.peak <= self.capacity)


def parameters(model: Model, layout: Layout) -> tuple[dict[str, Num], dict[str, Num]]:
    """(parameters of one layer on a device, those before and after the layers): dense ones, and those of experts, which
    fewer devices share.

    Returns:
        ``layer``, ``experts`` (means over the layers); ``input``, ``output``.
    """
    step = Step(model, plan_of(layout), 1.0, 1.0, 0.0, "prefill")
    layer: dict[str, Num] = {"layer": 0.0, "experts": 0.0}
    ends: dict[str, Num] = {INPUT: 0.0, OUTPUT: 0.0}
    for stack in model.stacks:
        if not stack.active or stack.stream != "text":
            continue
        for kind, n in stack.runs():
            for w in kind.weights():
                key = "experts" if w.split == "ep" else "layer"
                layer[key] = layer[key] + _local(step, w) * n / stack.depth
        for key, blocks in ((INPUT, stack.before), (OUTPUT, stack.after)):
            for block in blocks:
                ends[key] = ends[key] + _elements(step, block)
    return layer, ends


def _elements(step: Step, block: Block) -> Num:
    return sum((_local(step, w) for w in block.weights()), 0.0) + block.facts().tied / step.plan.tp


def _local(step: Step, w: Weight) -> Num:
    plan = step.plan
    if w.split == "tp":
        return w.elements / plan.tp
    if w.split == "ep":
        return w.elements / plan.ep / maximum(plan.tp / plan.ep, 1.0)
    return w.elements


def memory_of(
    model: Model, system: System, layout: Layout, how: Framework, work: Work, stage: str = "fullest"
) -> TrainMemory:
    """The account of the fullest stage, or of the first or last one.

    Args:
        stage: ``fullest``, ``first`` or ``last``.
    """
    first, last = (_stage(model, system, layout, how, work, at) for at in (0.0, 1.0))
    if stage != "fullest":
        return first if stage == "first" else last
    more = np.asarray(first.peak) >= np.asarray(last.peak)
    parts = {k: where(more, first.parts[k], last.parts[k]) for k in first.parts}
    return TrainMemory(where(more, 0.0, layout.pp - 1.0), parts, first.capacity, how.memory_interval)


def _stage(model: Model, system: System, layout: Layout, how: Framework, work: Work, at: float) -> TrainMemory:
    """Of the first (0) or last (1) stage."""
    x, recipe = layout, how.recipe
    layer, ends = parameters(model, x)
    held = ceil_div(work.depth, x.pp)
    alone = np.asarray(x.pp) <= 1
    tied = _tied(model)
    before, after = where(alone | (at == 0.0), ends[INPUT], 0.0), where(alone | (at == 1.0), ends[OUTPUT], 0.0)
    if tied:  # One matrix where both ends lie on one device.
        after = where(alone, after - _tied_elements(model, x), after)
    dense, experts = held * layer["layer"] + before + after, held * layer["experts"]
    # Adapters are trained instead of the weights, and kept in 16 bits beside them.
    own, routed = trained(x, how, work, dense, experts)
    adapters = 2.0 * own if recipe.rank > 0 else 0.0
    shards = minimum(x.replicas, x.shard)
    # Each expert is on fewer devices, which share its states.
    fewer = maximum(x.replicas * minimum(x.tp, x.ep) / x.ep, 1.0) if np.any(np.asarray(experts) > 0) else 1.0
    zero = np.asarray(x.zero)

    def divided(bytes_each: float, level: float, a: Num = own, b: Num = routed) -> Num:
        return bytes_each * where(zero >= level, a / shards + b / fewer, a + b)

    gathered = where(
        zero >= 3,
        2.0 * (layer["layer"] + layer["experts"]) * recipe.parameters + maximum(before, after) * recipe.parameters,
        0.0,
    )
    flying = in_flight(x, at)
    one = _kept(x, how, work)
    peak = maximum(0.0, *(p.working for p, _ in work.layers))
    again = where(np.asarray(x.recompute) >= 2, maximum(0.0, *(p.saved for p, _ in work.layers)) * how.saves, 0.0)
    logits = where(alone | (at == 1.0), work.logits * recipe.logits, 0.0)
    # The largest layer is recomputed, or the loss is taken, not both at once.
    parts: dict[str, Num] = {
        "parameters": divided(recipe.parameters, 3.0, dense, experts)
        + gathered
        + adapters
        # Embedding and head stay in 16 bits where the layers are in fewer.
        + max(2.0 - recipe.parameters, 0.0) * (before + after),
        "gradients": divided(recipe.gradients, 2.0) + recipe.also * (own + routed),
        "optimizer states": divided(recipe.states, 1.0),
        "activations": flying * held * one + maximum(again + peak, logits),
        "buffers": how.overhead + 0.0 * dense,
    }
    return TrainMemory(
        at * (x.pp - 1.0), parts, system.device.memory.capacity - system.device.reserve, how.memory_interval
    )


def trained(x: Layout, how: Framework, work: Work, dense: Num, experts: Num) -> tuple[Num, Num]:
    """Dense and expert parameters of a device that have gradients."""
    if how.recipe.rank <= 0:
        return dense, experts
    mean = sum((n / work.depth * p.adapters for p, n in work.layers), 0.0)
    return how.recipe.rank * ceil_div(work.depth, x.pp) * mean, 0.0 * experts


def _kept(layout: Layout, how: Framework, work: Work) -> Num:
    """Bytes that one layer keeps of one micro-batch."""
    total: Num = 0.0
    for piece, n in work.layers:
        full = piece.given
        selective = (piece.saved - piece.scores) * how.saves + how.recipe.gathered * piece.whole
        level = np.asarray(layout.recompute)
        kept = where(level >= 2, full, where(level >= 1, selective, selective + piece.scores))
        total = total + n / work.depth * kept
    return total


def in_flight(layout: Layout, at: float = 0.0) -> Num:
    """Micro-batches whose activations the first (0) or last (1) stage holds at once, of its whole share of the layers,
    under 1F1B and interleaved 1F1B (arXiv:2104.04473, section 2.2; arXiv:2205.05198, section 4.2.3)."""
    pp, v = layout.pp, layout.interleave
    chunks = where(np.asarray(v) > 1, pp * v + pp - 1.0 - 2.0 * (pp - 1.0) * at, pp - (pp - 1.0) * at)
    return minimum(maximum(chunks, 1.0) / v, layout.micro_batches)


def _tied(model: Model) -> bool:
    return any(bool(np.any(np.asarray(b.facts().tied) > 0)) for s in model.stacks for b in s.after)


def _tied_elements(model: Model, layout: Layout) -> Num:
    return sum((b.facts().tied for s in model.stacks for b in s.after), 0.0) / layout.tp
