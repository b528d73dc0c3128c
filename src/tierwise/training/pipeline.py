"""Stages of a pipeline: what a micro-batch takes on each, and how long all of them take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from tierwise.core.num import Num, maximum, minimum, num, where
from tierwise.schedule import order
from tierwise.schedule.closed import Passes
from tierwise.schedule.dual_pipe import unpaired
from tierwise.schedule.play import play
from tierwise.schedule.types import Demand, Event, Order, Timeline
from tierwise.training.layout import Layout, chosen, held, of_schedule, pipelines

# Seconds forward, of gradients of inputs, of gradients of weights.
Three = tuple[Num, Num, Num]


@dataclass(frozen=True)
class Stages:
    """One micro-batch on the stages of a layout.

    Attributes:
        passes: seconds of the first, a middle and the last stage.
        layers: that these hold. ``layer``: seconds of one of them; ``before``, ``behind``: of what stands before and
            behind them, and ``spread`` what every stage has of both where the vocabulary is divided.
    """

    passes: Passes
    layers: tuple[Num, Num, Num]
    layer: Three
    before: Three
    behind: Three
    spread: Three


def stages_of(layout: Layout, depth: Num, layer: Three, before: Three, behind: Three, links: Num) -> Stages:
    """The stages that layers and ends make.

    Args:
        links: seconds of the collectives of a layer, both ways.
    """
    x = layout
    layers = held(x, depth)
    alone_ = np.asarray(x.pp) <= 1
    whole = where(np.asarray(x.vocabulary) > 0, 0.0, 1.0)
    spread = _three(lambda k: (1.0 - whole) * (before[k] + behind[k]) / x.pp)
    share = [[of_schedule(x, lambda c, s=s, e=e: c.shape.ends[s][e]) for e in (0, 1)] for s in (0, 1)]  # type: ignore[misc]
    first = _three(lambda k: where(alone_, before[k] + behind[k], share[0][0] * before[k] + share[0][1] * behind[k]))
    last = _three(lambda k: where(alone_, before[k] + behind[k], share[1][0] * before[k] + share[1][1] * behind[k]))
    passes = [
        (
            layers[0] * layer[k] + whole * first[k] + spread[k],
            layers[1] * layer[k] + spread[k],
            layers[2] * layer[k] + whole * last[k] + spread[k],
        )
        for k in range(3)
    ]
    parts = maximum(x.interleave, of_schedule(x, lambda c: c.shape.parts))
    # Beside each other, one pass computes while the other one is on the wire.
    hidden = layers[1] * minimum(links, layer[0] + layer[1] + layer[2] - links)
    made = Passes(x.pp, x.micro_batches, parts, passes[0], passes[1], passes[2], maximum(hidden, 0.0))
    return Stages(made, layers, layer, before, behind, spread)


def _three(value: Callable[[int], Num]) -> Three:
    return value(0), value(1), value(2)


def span(layout: Layout, stages: Stages) -> Num:
    """Seconds from the first start to the last end, in closed form."""
    (_, form), *others = chosen(layout)
    out = form.span(stages.passes)
    for at, form in others:
        out = where(at, form.span(stages.passes), out)
    return out


def beside(layout: Layout, stages: Stages) -> Num:
    """Seconds of a step's collectives that lie behind the other direction's products (DualPipe)."""
    both = of_schedule(layout, lambda c: c.shape.copies) > 1.0
    paired = maximum(layout.micro_batches - unpaired(layout.pp), 0.0)
    return where(both, paired * stages.passes.hidden, 0.0)


def in_flight(layout: Layout, at: Num = 0.0) -> Num:
    """Micro-batches whose activations the first (0) or last (1) stage holds at once, of its whole share of layers."""
    x = layout
    return minimum(of_schedule(x, lambda c: c.held(x.pp, x.interleave, x.micro_batches, at)) + x.vocabulary,
                   x.micro_batches)  # fmt: skip


@dataclass(frozen=True)
class Played:
    """A pipeline of one layout, event by event."""

    order: Order
    timeline: Timeline

    @property
    def events(self) -> tuple[Event, ...]:
        return self.timeline.events


def played(layout: Layout, stages: Stages, events: bool = False) -> Played:
    """What each stage of one layout issues, and when it is done."""
    x, p = layout, stages.passes
    count, parts, m = int(_one(x.pp)), int(_one(p.parts)), num(x.micro_batches)
    name = pipelines()[int(_one(x.schedule))]
    if count == 1:
        name, parts = "gpipe", 1
    made = (
        order("interleaved", None, stages=count, micro_batches=m, chunks=parts)
        if name == "one_f_one_b" and parts > 1
        else order(name, None, stages=count, micro_batches=m)
    )
    split = any(op.startswith("weights") for op in made.ops)
    demands = [Demand(_seconds(op, layout, stages, parts, split)) for op in made.ops]
    return Played(made, play(made, demands, events=events, exposed=False))


# Which of the three passes an op is made of, where gradients of weights are apart, and where they are not.
_PASSES: Mapping[str, tuple[int, ...]] = {
    "forward": (0,), "backward": (1, 2), "first": (1, 2), "inputs": (1,), "late": (1,), "weights": (2,), "rest": (2,),
}  # fmt: skip


def passes_of(what: str, split: bool) -> tuple[int, ...]:
    """Which of the three passes an op of that name is made of. ``split``: gradients of weights are ops of their own."""
    return (1,) if split and what == "backward" else _PASSES[what]


def _seconds(op: str, layout: Layout, stages: Stages, parts: int, split: bool) -> float:
    """Seconds of one op, told by its name: what it does, and its part (or direction) and stage."""
    what, _, spot = op.partition(" ")
    *of, stage = (int(n) for n in spot.split("."))
    both = of_schedule(layout, lambda c: c.shape.copies)
    count = int(_one(layout.pp))
    layers = _one(stages.layers[0 if stage == 0 else 2 if stage == count - 1 else 1])
    ends = np.asarray([_one(v) for v in (*stages.before, *stages.behind)]).reshape(2, 3)
    if layout.vocabulary:
        ends = 0.0 * ends
    layer, spread = (np.asarray([_one(v) for v in x]) for x in (stages.layer, stages.spread))
    folded = _one(of_schedule(layout, lambda c: c.shape.ends[0][1])) > 0

    def place(way: int) -> int:
        """Which part of the model the stage has in one direction, where it has one of each."""
        return count - 1 - stage if way else stage

    def part(way: int) -> float:
        """Layers of that part."""
        given = {0: layout.first, count - 1: layout.last}.get(place(way), 0.0)
        return _one(given) or _one(stages.layers[1])

    def passes(way: int) -> np.ndarray:
        """Seconds of the three passes of one part of the model."""
        if _one(both) > 1:  # Both ends of the pipeline are the model's, each in one direction.
            at = place(way)
            return np.asarray(part(way) * layer + spread + (at == 0) * ends[0] + (at == count - 1) * ends[1])
        begins = stage == 0 and way == 0
        ending = (stage == 0 if folded else stage == count - 1) and way == parts - 1
        # An end that takes the place of a layer takes it in its own part.
        end = 1.0 if layers % parts and (layers + 1.0) % parts == 0.0 else 0.0
        mine = (layers + end) / parts - end * float(begins or ending)
        return np.asarray(mine * layer + spread / parts + begins * ends[0] + ending * ends[1])

    way = of[0] if of else 0
    if what == "overlapped":
        # A part of fewer layers hides less, and lets less be hidden.
        hidden = _one(stages.passes.hidden) * min(part(0), part(1)) / max(_one(stages.layers[1]), 1.0)
        return float(passes(way)[0] + passes(1 - way)[1:].sum() - hidden)
    return float(sum(passes(way)[k] for k in passes_of(what, split and _one(both) <= 1)))


def _one(x: object) -> float:
    return float(np.asarray(x))
