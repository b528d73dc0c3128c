"""Pipelines whose stages differ: in their layers, and in the devices they run on.

Each stage holds a number of layers of its own on devices of one kind; stages of different kinds may follow each other.
What a layer takes is priced on each kind, the pipeline is played with every stage's own times, replicas of a stage
average their gradients over its own devices' links, and stages hand over at the rate of the slower of both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from tierwise.core.errors import BadField
from tierwise.core.num import num
from tierwise.machines.types import System
from tierwise.models.types import Model
from tierwise.schedule import order
from tierwise.schedule.play import play
from tierwise.schedule.types import Demand
from tierwise.steps.price import KERNELS, engine_on
from tierwise.training.averaging import averaged, thinned
from tierwise.training.layout import Layout, chosen, pipelines
from tierwise.training.memory import Portion, TrainMemory, account, parameters, shared, trained
from tierwise.training.pipeline import Played, in_flight, passes_of
from tierwise.training.recipe import TrainingFramework
from tierwise.training.step import composed, exchange, to_next_stage, updated, useful
from tierwise.training.work import INPUT, OUTPUT, ModelWork, decoder, plan_of, work_of


@dataclass(frozen=True)
class UnevenStage:
    """One stage.

    Attributes:
        system: its devices, as many as replicas and tensor-parallel ranks it has.
        layers: that it holds. ``passes``: seconds of a micro-batch forward, of gradients of inputs, of weights.
        memory: of one of its devices.
    """

    system: System
    layers: int
    passes: tuple[float, float, float]
    memory: TrainMemory

    @property
    def seconds(self) -> float:
        return sum(self.passes)


@dataclass(frozen=True)
class UnevenStep:
    """One optimizer step: its stages, seconds by cause, the pipeline as played.

    Attributes:
        flops: useful arithmetic over all devices. ``peak``: FLOP/s of all devices.
    """

    layout: Layout
    how: TrainingFramework
    stages: tuple[UnevenStage, ...]
    parts: Mapping[str, float]
    run: Played
    flops: float
    peak: float

    @property
    def time(self) -> float:
        return sum(self.parts.values())

    @property
    def tokens(self) -> float:
        x = self.layout
        return float(np.asarray(x.global_batch * x.seq * x.filled)) / self.time

    @property
    def mfu(self) -> float:
        return self.flops / (self.time * self.peak)

    @property
    def fits(self) -> bool:
        return all(bool(s.memory.fits) for s in self.stages)


def uneven_step(
    model: Model,
    machines: Sequence[System],
    layout: Layout,
    how: TrainingFramework,
    layers: Sequence[int] | None = None,
    flash: bool = True,
    priced: dict[tuple[object, ...], ModelWork] | None = None,
    events: bool = True,
) -> UnevenStep:
    """A step of a pipeline whose stages differ.

    Args:
        machines: of each stage in turn.
        layout: with as many stages, of a schedule that gives each one part of the model.
        layers: of each stage; without, as many as make the slowest stage fastest among what fits.
        events: every execution of the pipeline is told.
        priced: micro-batches that other layouts of this model have been priced for, to be looked up and added to.

    Raises:
        BadField: a layout or layers that cannot be.
    """
    x = layout
    _check(model, machines, x, layers)
    known = {} if priced is None else priced
    kinds: dict[str, _Kind] = {}
    for m in machines:
        if m.name not in kinds:
            if _key(m, x) not in known:
                known[_key(m, x)] = work_of(model, m, x, how, flash)
            kinds[m.name] = _Kind(model, m, x, how, known[_key(m, x)])
    made = [kinds[m.name] for m in machines]
    count = balanced(made, decoder(model).depth) if layers is None else tuple(int(n) for n in layers)
    stages = tuple(made[i].stage(i, n) for i, n in enumerate(count))
    name = pipelines()[int(float(np.asarray(x.schedule)))]
    made_order = order(name, None, stages=len(stages), micro_batches=num(x.micro_batches))
    split = any(op.startswith("weights") for op in made_order.ops)
    demands = []
    for op in made_order.ops:
        what, _, spot = op.partition(" ")
        demands.append(Demand(sum(stages[int(spot)].passes[k] for k in passes_of(what, split))))
    run = Played(made_order, play(made_order, demands, events=events, exposed=False))
    turns = float(np.asarray(x.micro_batches))
    slowest = max(s.seconds for s in stages)
    wire = [k.wire(i, s.layers, slowest) for i, (k, s) in enumerate(zip(made, stages, strict=True))]
    far = len(kinds) > 1
    send = max(k.send(far) for k in kinds.values())
    parts = {
        "slowest stage": turns * slowest,
        "bubble": float(run.timeline.time) - turns * slowest,
        "hand-overs": 2.0 * send * (turns + len(stages) - 1.0),
        "gradients on the wire": max(w for w, _ in wire),
        "update": max(u for _, u in wire),
    }
    flops = float(np.asarray(useful(made[0].work, x, how)))
    peak = sum(k.rate * float(np.asarray(x.tp * x.replicas)) for k in made)
    return UnevenStep(x, how, stages, parts, run, flops, peak)


def balanced(made: Sequence[_Kind], depth: int) -> tuple[int, ...]:
    """Layers of each stage: one after the other goes where it makes the stage slowest least, among those with room.

    Raises:
        BadField: they do not fit.
    """
    out = [0] * len(made)
    most = [k.most(i) for i, k in enumerate(made)]
    for _ in range(depth):
        free = [i for i, n in enumerate(out) if n < most[i]]
        if not free:
            raise BadField("layout", "layers that fit", sum(out), f"{depth}, the model's: more stages, recomputation")
        at = min(free, key=lambda i: made[i].seconds(i, out[i] + 1))
        out[at] += 1
    return tuple(out)


def _key(system: System, x: Layout) -> tuple[object, ...]:
    """What a micro-batch's price depends on; with experts, also on the replicas that share them."""
    several = float(np.asarray(x.ep)) > 1
    return (system.name, *(float(np.asarray(v)) for v in (x.tp, x.cp, x.ep, x.micro_batch, x.seq, x.sequence_parallel)),
            float(np.asarray(x.dp)) if several else 1.0, float(np.asarray(x.imbalance)))  # fmt: skip


class _Kind:
    """What layers take on one kind of device."""

    def __init__(self, model: Model, system: System, x: Layout, how: TrainingFramework, work: ModelWork) -> None:
        self.model, self.system, self.x, self.how, self.work = model, system, x, how, work
        self.on = engine_on(model, plan_of(x), system, KERNELS).target
        self.rate = float(np.asarray(self.on.rate(how.recipe.precision)[0]))
        step = composed(model, system, x, how, self.work)
        self.layer, self.before, self.behind = (
            tuple(float(np.asarray(v)) for v in t) for t in (step.stages.layer, step.stages.before, step.stages.behind)
        )
        self.sizes, self.ends = parameters(model, x)

    @property
    def last(self) -> int:
        return int(float(np.asarray(self.x.pp))) - 1

    def passes(self, i: int, n: int) -> tuple[float, float, float]:
        a, b, c = (n * self.layer[k] + (i == 0) * self.before[k] + (i == self.last) * self.behind[k] for k in range(3))
        return a, b, c

    def seconds(self, i: int, n: int) -> float:
        return sum(self.passes(i, n))

    def memory(self, i: int, n: int) -> TrainMemory:
        own = Portion(
            float(i),
            float(n),
            (i == 0) * self.ends[INPUT],
            (i == self.last) * self.ends[OUTPUT],
            float(i == self.last),
            in_flight(self.x, i / max(self.last, 1)),
        )
        return account(self.model, self.system, self.x, self.how, self.work, own)

    def most(self, i: int) -> int:
        """Layers that fit at most: memory grows by the same for each."""
        none, one = self.memory(i, 0), self.memory(i, 1)
        each = float(np.asarray(one.peak)) - float(np.asarray(none.peak))
        left = float(np.asarray(none.capacity)) - float(np.asarray(none.peak))
        return max(int(left // each), 0)

    def stage(self, i: int, n: int) -> UnevenStage:
        return UnevenStage(self.system, n, self.passes(i, n), self.memory(i, n))

    def wire(self, i: int, n: int, slowest: float) -> tuple[float, float]:
        """Seconds in which a stage's gradients are averaged and nothing hides it, and those of its update."""
        before, after = (i == 0) * self.ends[INPUT], (i == self.last) * self.ends[OUTPUT]
        dense = n * self.sizes["layer"] + before + after - shared(self.model, self.x, before, after)
        moved = trained(self.x, self.how, self.work, dense, n * self.sizes["experts"])
        small, thin = thinned(self.model, self.x, self.how), moved
        if small is not None:
            (layer, ends), first, last = small, i == 0, i == self.last
            thin = n * layer["layer"] + first * ends[INPUT] + last * ends[OUTPUT], n * layer["experts"]
        told = averaged(self.on, partial(exchange, self.on, far=self.how.far), self.x, self.how, moved, thin, slowest)
        return float(np.asarray(told)), float(np.asarray(updated(self.on, self.x, self.how, moved)))

    def send(self, far: bool) -> float:
        """Seconds in which a micro-batch goes to the next stage: over the fabric where that is of another kind."""
        x = self.x
        if self.last == 0:
            return 0.0
        size = x.micro_batch * x.seq / x.cp * self.model.hidden * 2.0
        stride = max(float(np.asarray(x.tp * x.replicas)), float(self.system.per_node) if far else 1.0)
        return float(np.asarray(to_next_stage(self.on, size, x, self.how, stride)))


def _check(model: Model, machines: Sequence[System], x: Layout, layers: Sequence[int] | None) -> None:
    depth = decoder(model).depth
    (_, form), *_ = chosen(x)
    if len(machines) != int(float(np.asarray(x.pp))):
        raise BadField("layout", "pp", x.pp, f"{len(machines)}, a stage for each machine given")
    if float(np.asarray(x.interleave)) != 1 or form.shape.parts or form.shape.copies > 1:
        raise BadField("layout", "schedule", "several parts of the model on a stage", "one part, where stages differ: "
                       "1f1b, gpipe, zero_bubble")  # fmt: skip
    if float(np.asarray(x.vocabulary)) > 0:
        raise BadField("layout", "vocabulary_parallel", True, "nothing where stages differ")
    if layers is not None and (len(layers) != len(machines) or sum(layers) != depth or min(layers) < 0):
        raise BadField("layout", "stage_layers", ",".join(map(str, layers)), f"{len(machines)} numbers that add up to "
                       f"the {depth} layers")  # fmt: skip
