"""Layouts over machines of several kinds: each pipeline stage on devices of one kind, with layers by what they take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product

import numpy as np

from tierwise.core.errors import BadField
from tierwise.machines.types import System
from tierwise.models.types import Model
from tierwise.training.layout import RECOMPUTE, Layout, divisors, nearest
from tierwise.training.recipe import TrainingFramework
from tierwise.training.uneven import UnevenStep, uneven_step
from tierwise.training.work import ModelWork, decoder

# Sequences of a micro-batch that are tried.
_MICRO_BATCHES = (1.0, 2.0, 4.0, 8.0)


def arranged(
    model: Model,
    machines: Sequence[System],
    layout: Layout,
    how: TrainingFramework,
    layers: Sequence[int] | None = None,
    priced: dict[tuple[object, ...], ModelWork] | None = None,
    events: bool = True,
) -> UnevenStep:
    """One layout over all devices: as many stages as its degrees leave, machines in the order they are given.

    Args:
        layout: its ``pp`` and ``dp`` follow from what else it says where it has neither.
        layers: of each stage; without, by time and memory. ``priced``, ``events``: as of :func:`uneven_step`.

    Raises:
        BadField: devices of a machine that do not make whole stages.
    """
    x, devices = layout, sum(float(m.count) for m in machines)
    stage = x.tp * x.cp * x.dp
    if float(np.asarray(x.pp)) > 1 and float(np.asarray(x.dp)) == 1:
        stage = devices / x.pp
        x = replace(x, dp=max(stage / (x.tp * x.cp), 1.0))
    made: list[System] = []
    for m in machines:
        if m.count % stage:
            raise BadField("layout", "devices of a stage", stage, f"a divisor of the {m.count:.0f} x {m.device.name}; "
                           f"{nearest(float(np.asarray(stage)), m.count)}")  # fmt: skip
        made += [m] * int(m.count / stage)
    x = replace(x, pp=float(len(made)), sequence_parallel=float(x.tp > 1))
    if x.global_batch % (x.dp * x.micro_batch):
        raise BadField("layout", "global_batch", x.global_batch, "a multiple of dp x micro-batch = "
                       f"{float(np.asarray(x.dp * x.micro_batch)):.0f}")  # fmt: skip
    return uneven_step(model, made, x, how, layers, priced=priced, events=events)


def plan_uneven(
    model: Model,
    machines: Sequence[System],
    how: TrainingFramework,
    global_batch: float,
    seq: float,
    fixed: Mapping[str, float],
) -> UnevenStep:
    """The fastest layout that fits.

    Raises:
        BadField: none fits, or none is legal.
    """
    heads = min((float(np.asarray(b.facts().heads)) for k in decoder(model).kinds for b in k.blocks if b.facts().heads),
                default=1.0)  # fmt: skip
    common = int(np.gcd.reduce([int(m.count) for m in machines]))
    near = min(m.per_node for m in machines)
    best: UnevenStep | None = None
    found = Layout()
    refused: BadField | None = None
    priced: dict[tuple[object, ...], ModelWork] = {}
    widths = [d for d in divisors(common) if d <= near and heads % d == 0]
    for tp, stage, micro, again in product(widths, divisors(common), _MICRO_BATCHES, range(len(RECOMPUTE))):
        tried = {"tp": float(tp), "dp": stage / tp, "micro_batch": micro, "recompute": float(again), "zero": 1.0}
        if stage % tp or any(tried.get(k, v) != v for k, v in fixed.items() if k != "pp"):
            continue
        if sum(m.count / stage for m in machines) != fixed.get("pp", sum(m.count / stage for m in machines)):
            continue
        if stage == common and len(machines) == 1:
            continue  # one stage does not differ from others
        x = Layout(global_batch=global_batch, seq=seq, **{**tried, **{k: v for k, v in fixed.items() if k != "pp"}})
        try:
            step = arranged(model, machines, x, how, priced=priced, events=False)
        except BadField as e:
            refused = e
            continue
        if step.fits and (best is None or step.time < best.time):
            best, found = step, x
    if best is None:
        raise refused or BadField("layout", "devices", common, "degrees that divide the devices of every machine")
    return arranged(model, machines, found, how, priced=priced)
