"""Where the scenarios of papers begin.

Papers publish one system against another. What both sides share (the machine, the requests, the framework that runs
both) is the scenario made here; what differs is a technique applied to it, or one of two things a claim passes through
:func:`contrast`. Keeping the two apart lets the suite take the difference away and see whether a paper notices
(:mod:`tierwise.papers.mutations`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from tierwise.core.num import Num
from tierwise.core.numerics import Format, fmt
from tierwise.engines import KERNELS
from tierwise.machines.load import system
from tierwise.machines.types import System
from tierwise.memory.patches import Patched, in_place, least_room, patched, shapes
from tierwise.memory.spilling import scheduled
from tierwise.memory.tensors import GraphBuilder, OperatorGraph, graph
from tierwise.memory.units import IMAGE, Unit, operators
from tierwise.models.load import load_model
from tierwise.models.types import Model
from tierwise.scenario.types import Batch, Plan, Scenario
from tierwise.training import Layout, TrainingFramework, TrainStep, framework, train_step
from tierwise.training.averaging import sent
from tierwise.training.groups import Grouped, mixed, same
from tierwise.training.layout import pipelines
from tierwise.training.needed import needed
from tierwise.training.passed import passed
from tierwise.training.recipe import compression
from tierwise.training.reserved import reserved_of
from tierwise.training.tuned import TunedMemory, Tuning, tuned, whole
from tierwise.training.uneven import UnevenStep, uneven_step

__all__ = [
    "IMAGE", "KERNELS", "GraphBuilder", "Grouped", "Layout", "OperatorGraph", "Patched", "TrainStep", "TunedMemory",
    "Tuning", "UnevenStep", "Unit", "contrast", "driver", "exchanged", "grouped", "in_patches", "in_turn", "joined",
    "mixed", "needed", "passed_on", "redistributed", "same", "scenario", "schedule", "segments", "spilled", "stored",
    "trained", "training_rate", "tuned", "whole", "work_in_patches",
]  # fmt: skip

T = TypeVar("T")


def scenario(
    model: Model | str,
    machine: str,
    traffic: Batch | None = None,
    plan: Plan | None = None,
    *,
    engine: str = KERNELS,
    under: Sequence[Callable[[Scenario], Scenario]] = (),
) -> Scenario:
    """The scenario both sides of a paper share: kernels alone, no serving engine around them unless the paper names
    one.

    Args:
        model, machine, traffic, plan: as of :class:`tierwise.Scenario`.
        engine: the serving engine that the paper names.
        under: conditions that hold on both sides, such as the framework a paper names
            (``techniques.eager("transformers")``) or an analysis at datasheet rates (``techniques.roofline()``).
    """
    shared = Scenario(model, machine, traffic if traffic is not None else Batch(), plan, engine=engine)
    for condition in under:
        shared = condition(shared)
    return shared


def trained(
    model: Model | str,
    machine: System | str,
    layout: Layout,
    how: str = "megatron",
    *,
    flash: bool = True,
    **recipe: Any,
) -> TrainStep:
    """One optimizer step of a model that a paper trains: its ``time``, ``mfu`` and ``memory``.

    Args:
        model, machine: as of :class:`tierwise.Scenario`; or a machine that is in no catalog. ``layout``: how the step
            is divided; arrays for many at once.
        how: the framework that the paper trained with, or the nearest that was measured.
        flash: fused attention.
        recipe: what the paper keeps in another format than the framework does, as of
            :class:`tierwise.training.Recipe`: ``optimizer="sgd-momentum"``.
    """
    which = load_model(model) if isinstance(model, str) else model
    on = system(machine) if isinstance(machine, str) else machine
    return train_step(which, on, layout, _keeping(how, recipe), flash)


def joined(machine: str, share: float) -> System:
    """A machine of several nodes whose network has a share of the bandwidth that the catalog says."""
    found = system(machine)
    way = found.scale_out
    return found if way is None else replace(found, scale_out=replace(way, bandwidth=way.bandwidth * share))


def grouped(model: Model, machine: System, layout: Layout, how: str, **recipe: Any) -> Grouped:
    """Groups of devices that divide sequences of many lengths, for :func:`same` and :func:`mixed`. See
    :func:`trained`."""
    return Grouped(model, machine, layout, _keeping(how, recipe))


def segments(
    model: Model, machine: str, layout: Layout, how: str = "megatron", *, flash: bool = True, **recipe: Any
) -> float:
    """Bytes that PyTorch's allocator takes from the driver for such steps on one device. See :func:`trained`."""
    step = trained(model, machine, layout, how, flash=flash, **recipe)
    return reserved_of(model, step.layout, step.how, flash)


def stored(s: Scenario, form: str) -> Scenario:
    """Tables and head in a format too, which a plan's ``weights`` leaves as the checkpoint has them."""
    shared = s.with_plan(weights=form, activations=form)
    return replace(shared, model=replace(shared.resolved().model, formats={"*": fmt(form)}))


def redistributed(
    model: Model, machine: str, layout: Layout, layers: Sequence[int], how: str = "megatron", **recipe: Any
) -> UnevenStep:
    """One optimizer step of a pipeline whose stages have layers of their own. See :func:`trained`."""
    found = system(machine)
    return uneven_step(model, [found] * len(layers), layout, _keeping(how, recipe), layers, events=False)


def _keeping(how: str, recipe: Mapping[str, Any]) -> TrainingFramework:
    """A framework that keeps some things otherwise than its file says."""
    found = framework(how)
    return replace(found, recipe=replace(found.recipe, **recipe))


def exchanged(model: Model, compress: str, how: str = "megatron") -> float:
    """Bytes of gradients that a replica gives into their averaging in a step.

    Args:
        compress: how they are sent, as of ``--compress``; ``how``: the framework that says their format.
    """
    return float(sent(model, Layout(), replace(framework(how), compress=compression(compress))))


def passed_on(step: TrainStep) -> float:
    """Bytes that a device sends for one layer in both passes of a micro-batch."""
    return float(passed(step.work, step.layout, step.how.recipe))


def schedule(name: str) -> float:
    """The number by which a layout knows a schedule of pipelines."""
    return float(pipelines().index(name))


def driver(machine: str) -> float:
    """Bytes of a device's memory that its driver keeps, which tools that ask it count as used."""
    return system(machine).device.reserve


def training_rate(step: TrainStep | UnevenStep, flops: Num) -> Num:
    """FLOP/s of a device, by the authors' own count of a step's arithmetic.

    Args:
        flops: of one step over all devices. Counts differ (recomputation, a causal mask's empty half): a published
            rate is its authors' count over the time they measured, so it is held against theirs over ours.
    """
    return flops / (step.time * step.layout.devices)


def in_turn(units: Sequence[Unit], tokens: float, form: Format) -> float:
    """Bytes that activations of a network of convolutions take, one layer after the other, depthwise ones and sums in
    place."""
    ops = operators(units, tokens, form)
    return float(least_room(in_place(graph(ops, form), ops, sums=True)))


def in_patches(units: Sequence[Unit], tokens: float, form: Format, stage: int, grid: int) -> Patched:
    """The same with the first ``stage`` convolutions run on one of ``grid`` x ``grid`` pieces after the other; the
    image is read where it lies."""
    ops = operators(units, tokens, form)
    g = in_place(graph(ops, form), ops, sums=True)
    split = next(i for i, task in enumerate(g.tasks) if task.name == ops[stage].name)
    return patched(g, shapes(ops, g, float(form.bytes)), split, grid, True)


def work_in_patches(units: Sequence[Unit], tokens: float, form: Format, stage: int, grid: int) -> tuple[float, float]:
    """Multiply-adds of ``in_patches``: (of its first ``stage`` convolutions, of all)."""
    ops = operators(units, tokens, form)
    g = in_place(graph(ops, form), ops, sums=True)
    more = dict(zip((task.name for task in g.tasks), in_patches(units, tokens, form, stage, grid).again, strict=False))
    work = [float(op.flops) / 2.0 * more.get(op.name, 1.0) for op in ops]
    return sum(work[:stage]), sum(work)


def spilled(g: OperatorGraph) -> tuple[float, float]:
    """Bytes beyond the compulsory ones that a graph moves in the least scratchpad that all its operators run in: (in
    the order given, first-fit, what is needed last leaving; in the best order and placement)."""
    plan = scheduled(g, max(g.working))
    return float(plan.first_fit), float(plan.best.traffic)


def contrast(baseline: T, changed: T) -> T:
    """The changed side of a comparison that no technique makes: another model, machine or setting.

    Returns:
        ``changed``. Going through here says that a claim is about the difference to ``baseline``.
    """
    return _differing(baseline, changed)


def _differing(baseline: T, changed: T) -> T:
    return changed
