"""What one optimizer step takes: micro-batches through the pipeline, gradients over the replicas, the update."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from tierwise.core.num import Num, ceil_div, maximum, minimum, num, where
from tierwise.core.numerics import fmt
from tierwise.cost import Target, price
from tierwise.cost.exchange import UNITS
from tierwise.machines.types import System
from tierwise.models.types import Model
from tierwise.program.types import Op, Operand
from tierwise.schedule.closed import largest
from tierwise.steps.price import KERNELS, engine_on
from tierwise.training.averaging import averaged, packing, thinned, wired
from tierwise.training.contention import Taken, taken, waits
from tierwise.training.kept import MODULES
from tierwise.training.layout import Layout, of_schedule
from tierwise.training.memory import TrainMemory, memory_of, parameters, share, shared, trained
from tierwise.training.offload import asked, offloaded
from tierwise.training.passed import around_attention
from tierwise.training.pipeline import Stages, Three, beside, span, stages_of
from tierwise.training.positions import kinds_on_stages
from tierwise.training.recipe import TrainingFramework
from tierwise.training.work import CLASSES, INPUT, OUTPUT, PORTS, BodyRun, ModelWork, plan_of, work_of


@dataclass(frozen=True)
class TrainStep:
    """One optimizer step of a layout, or of many.

    Attributes:
        layout, work: what runs. ``how``: the framework that runs it.
        parts: seconds of the step by cause, on the slowest stage: what its micro-batches take by class of op, the
            bubble, hand-overs between stages, gradients and parameters on the wire that nothing hides, the update.
        stages: seconds of a micro-batch on the stages of the pipeline.
        flops: useful arithmetic of the step over all devices: recomputation left out.
        memory: of the fullest device.
        peak: FLOP/s of a device in the format of the products.
    """

    layout: Layout
    work: ModelWork
    how: TrainingFramework
    parts: Mapping[str, Num]
    stages: Stages
    flops: Num
    memory: TrainMemory
    peak: Num

    @property
    def time(self) -> Num:
        """Seconds."""
        return sum(self.parts.values(), 0.0)

    @property
    def interval(self) -> tuple[Num, Num]:
        """Seconds between which 80 % of measurements lie."""
        experts = any(np.any(np.asarray(piece.forward["routed"]) > 0) for piece, _ in self.work.layers)
        low, high = (self.how.routed_interval if experts else None) or self.how.interval
        return self.time * low, self.time * high

    @property
    def tokens(self) -> Num:
        """Tokens a second, over all devices; padding does not count."""
        return self.layout.global_batch * self.layout.seq * self.layout.filled / self.time

    @property
    def mfu(self) -> Num:
        """Useful arithmetic over what the devices could do."""
        return self.flops / (self.time * self.layout.devices * self.peak)


def train_step(
    model: Model, system: System, layout: Layout, how: TrainingFramework, flash: bool = True, depth: Num | None = None
) -> TrainStep:
    """What a step takes and holds.

    Args:
        flash: fused attention.
        depth: as in :func:`tierwise.training.work.work_of`.
    """
    work = work_of(model, system, layout, how, flash, depth)
    return composed(model, system, layout, how, work)


def composed(model: Model, system: System, layout: Layout, how: TrainingFramework, work: ModelWork) -> TrainStep:
    """A step from the work of a micro-batch."""
    x, on = layout, engine_on(model, plan_of(layout), system, KERNELS).target
    layer, ends = parameters(model, x)
    less = thinned(model, x, how) if how.recipe.forwards <= 0 else None
    shards = np.asarray(x.zero) >= 3
    # Fully sharded: a layer's parameters are gathered twice, and its gradients scattered, beside its own work.
    group = np.minimum(np.asarray(x.replicas), np.asarray(x.shard))
    scattered, gathered = wired(how)
    wire = partial(exchange, on, far=how.far)
    small = how.compress.kind == "int8"

    def beside_work(kind: str, size: Num) -> Taken:
        return taken(on, kind, wire(kind, size, group, x.tp), size, group, x.tp)

    made = layer["layer"] if less is None else less[0]["layer"]
    if how.recipe.frozen and how.recipe.mixed <= 0:  # Units of frozen weights have nothing to scatter.
        made = trained(x, how, work, made, made)[0] / ceil_div(work.depth, x.pp)
    gather = beside_work("all_gather", layer["layer"] * gathered)
    scatter = beside_work("reduce_scatter", made * scattered)
    packs = where(shards, packing(on, how, layer["layer"]), 0.0) if small else 0.0

    left = _left(on, x, how)
    rows: list[_Layer] = []
    for piece, _ in work.layers:
        forward, behind, again, later = _times(piece, x, how, left)
        around_attention(partial(exchange, on), x, how, piece, forward, behind)
        if how.recipe.adds:  # Autograd's own gradients, in 16 bits, are added to those that are kept.
            each = (2.0 + 2.0 * how.recipe.gradients) * (layer["layer"] + layer["experts"])
            behind["memory"] = behind["memory"] + how.memory * each / on.memory.bandwidth
        if how.recipe.forwards > 0:
            forward, behind, again, later = _alone(forward, behind, how)
        rows.append((forward, {k: behind[k] + again[k] for k in behind}, later))
    kinds = kinds_on_stages(x, work.pattern, [n for _, n in work.layers])
    mean_f, mean_b, later = _mixed(rows, [kind.each for kind in kinds])
    wait_f = where(shards, waits(gather, _total(mean_f), how), 0.0)
    wait_b = where(shards, waits(gather + scatter, _total(mean_b), how), 0.0)
    one = _total(mean_f) + wait_f, _total(mean_b) + wait_b + packs - later, later
    before = _beyond(_end(work, INPUT, x, how), _mixed(rows, [kind.first for kind in kinds]))
    after = _beyond(_end(work, OUTPUT, x, how), _mixed(rows, [kind.last for kind in kinds]))
    stages = stages_of(x, work.depth, one, before, after, sum(w[k] for w in (mean_f, mean_b) for k in ("link", "sent")))
    m, slowest = x.micro_batches, stages.passes.slowest
    fullest = _fullest(stages)
    parts = {name: m * fullest * (mean_f[name] + mean_b[name]) for name in (*CLASSES, "host")}
    parts["ends"] = m * (slowest - fullest * (one[0] + one[1] + one[2]))
    parts["parameters on the wire"] = m * fullest * (wait_f + wait_b + packs)
    hidden = beside(x, stages)
    parts["link"] = parts["link"] - hidden
    parts["bubble"] = span(x, stages) - m * slowest + hidden
    parts["hand-overs"] = _handed(on, model, x, stages, how)
    moved = trained(x, how, work, *_held(stages.layers, layer, ends, x, partial(shared, model, x)))
    # Zeroth-order replicas tell each other how much a loss changed: one number.
    told = tuple(0.0 * n for n in moved) if how.recipe.forwards > 0 else moved
    thin = (told[0], told[1]) if less is None else _held(stages.layers, *less, x)
    parts["gradients on the wire"] = averaged(on, wire, x, how, (told[0], told[1]), thin, slowest)
    memory = memory_of(model, system, x, how, work)
    parts["update"] = updated(on, x, how, moved) + how.memory * 2.0 * memory.shaped / on.memory.bandwidth
    if asked(x):
        p = stages.passes
        back = tuple(a + b for a, b in zip(p.inputs, p.weights, strict=True))
        both = largest(p.stages, p.forward), largest(p.stages, (back[0], back[1], back[2]))
        extra = offloaded(on, system, x, how, _shared(x, moved), memory.kept, both)
        parts["copies to the host"] = extra.copies
        if how.recipe.forwards <= 0:
            near = (1.0 - x.offload_share) * parts["update"]
            parts["update"] = where(np.asarray(x.offload) > 0, extra.update + near, parts["update"])
    if np.any(np.asarray(x.straggler) > 0):
        # The slowest of n devices whose speeds are spread normally (Cramer, Mathematical Methods of Statistics, 28.6).
        # Islands that do not wait for each other wait for their own slowest alone.
        together = x.devices / where(np.asarray(x.late) > 0, x.islands, 1.0)
        spread = x.straggler * np.sqrt(2.0 * np.log(maximum(together, 2.0)))
        late = where(np.asarray(together) > 1, spread, 0.0)
        parts["stragglers"] = late * m * slowest
    flops = useful(work, x, how)
    rate = on.rate(fmt(how.recipe.precision).arithmetic)[0]
    return TrainStep(x, work, how, parts, stages, flops, memory, rate)


# Seconds of a layer by class, forward and backward, and those of the backward pass that gradients of weights take.
_Layer = tuple[dict[str, Num], dict[str, Num], Num]


def _mixed(rows: Sequence[_Layer], counts: Sequence[Num]) -> _Layer:
    """So many layers of each kind."""
    each = list(zip(rows, counts, strict=True))
    forward = {k: sum((f[k] * n for (f, _, _), n in each), 0.0) for k in rows[0][0]}
    behind = {k: sum((b[k] * n for (_, b, _), n in each), 0.0) for k in rows[0][1]}
    return forward, behind, sum((later * n for (_, _, later), n in each), 0.0)


def _beyond(end: Three, layers: _Layer) -> Three:
    """What an end stage has beyond as many layers as a middle one has."""
    forward, behind, later = layers
    return end[0] + _total(forward), end[1] + _total(behind) - later, end[2] + later


def _fullest(stages: Stages) -> Num:
    """Layers of the slowest stage."""
    first, middle, last = stages.layers
    totals = stages.passes.totals
    slowest = stages.passes.slowest
    return where(np.equal(totals[0], slowest), first, where(np.equal(totals[2], slowest), last, middle))


def _handed(on: Target, model: Model, x: Layout, stages: Stages, how: TrainingFramework) -> Num:
    """Seconds in which stages hand over to each other: each way for every micro-batch and part of the model, and for
    every stage once to fill the pipeline. A divided vocabulary hears of the last stage's output, and tells of its
    gradient, beside the next micro-batches' work (arXiv:2411.05288).

    Where the framework passes beside its work on another part, what is longer than that is waited for.
    """
    size = x.micro_batch * x.seq / x.cp * model.hidden * 2.0
    whole = where(np.asarray(x.sequence_parallel) > 0, x.tp, 1.0)
    send = to_next_stage(on, size, x, how, x.tp * x.replicas)
    count = x.micro_batches * stages.passes.parts
    # Passes before the first backward one (arXiv:2104.04473, section 2.2), of the mean stage.
    filling = minimum(stages.passes.parts * x.pp - 1.0, count)
    longer = maximum(send - 0.5 * stages.passes.slowest / stages.passes.parts, 0.0)
    steady = where((np.asarray(x.interleave) > 1) & (how.recipe.passing > 0), longer, send)
    wire: Num = 0.0
    if np.any(np.asarray(x.vocabulary) > 0):
        part, apart = size / whole, x.tp * x.replicas
        once = taken(on, "all_reduce", exchange(on, "all_reduce", part, x.pp, apart), part, x.pp, apart)
        waited = waits(once + once, stages.passes.slowest, how)
        wire = where(np.asarray(x.vocabulary) > 0, x.micro_batches * waited, 0.0)
    both = 2.0 * (steady * (count - filling) + send * (filling + x.pp - 1.0))
    return where(np.asarray(x.pp) <= 1, 0.0, both + wire)


def to_next_stage(on: Target, size: Num, x: Layout, how: TrainingFramework, stride: Num) -> Num:
    """Seconds in which a stage gives a micro-batch's stream to the next one. Devices of a tensor-parallel group hold
    the same, or a part each where the sequence is divided; where the framework cuts it for the way as well, the group
    gathers it there (arXiv:2104.04473, section 4.1)."""
    divided = np.asarray(x.sequence_parallel) > 0
    cut = ~divided & (how.recipe.cut > 0)
    send = exchange(on, "send", size / where(divided | cut, x.tp, 1.0), x.pp, stride)
    return send + where(cut, exchange(on, "all_gather", size, x.tp, 1.0), 0.0)


def _total(parts: Mapping[str, Num]) -> Num:
    return sum(parts.values(), 0.0)


def _times(
    piece: BodyRun, x: Layout, how: TrainingFramework, left: Num = 1.0, wide: bool = False
) -> tuple[dict[str, Num], dict[str, Num], dict[str, Num], Num]:
    """Seconds by class of the forward pass, the backward pass, and what is computed again for it; and seconds of the
    backward pass that gradients of weights take.

    Args:
        left: share of a device's units that products and attention have.
        wide: products are in 16 bits whatever the recipe says (the head's).
    """
    products = how.low if how.recipe.low and not wide else how.matmul
    factors = {"matmul": products / left, "attention": how.attention / left, "memory": how.memory, "link": how.link}
    factors["routed"] = how.routed * how.memory
    factors["sent"] = 1.0  # Tokens travel by what the library and DeepEP were measured to.
    # Packed documents do not attend to each other.
    factors["attention"] = factors["attention"] * x.attended
    forward = {k: factors[k] * piece.forward[k] for k in CLASSES}
    behind = {k: factors[k] * piece.backward[k] for k in CLASSES}
    # A framework may be nearer to its ports' rate than the library was measured to be, not beyond it.
    forward["link"] = maximum(forward["link"], piece.forward[PORTS])
    behind["link"] = maximum(behind["link"], piece.backward[PORTS])
    later = sum((factors[k] * piece.weights[k] for k in CLASSES), 0.0)
    if np.any(np.asarray(x.asynchronous) > 0):
        for way in (forward, behind):
            # In as many parts as there are devices: one of them is never beside a product.
            parted = maximum(way["link"] - way["matmul"], way["link"] / x.tp)
            way["link"] = where(np.asarray(x.asynchronous) > 0, parted, way["link"])
    if how.recipe.beside > 0:
        behind["link"] = behind["link"] - _beside(behind["link"], factors["matmul"] * piece.weights["matmul"], x)
    if how.recipe.aside > 0:
        # A forward pass's tokens travel beside another micro-batch's backward pass, and the other way round; nothing is
        # beside the first forward pass and the last backward one.
        both = _total(forward) - forward["sent"], _total(behind) - behind["sent"]
        most = 1.0 - 1.0 / x.micro_batches
        forward["sent"] = forward["sent"] - most * minimum(forward["sent"], both[1])
        behind["sent"] = behind["sent"] - most * minimum(behind["sent"], both[0])
    forward["host"] = maximum(how.launch * piece.launches[0] + piece.looped[0] - _total(forward), 0.0)
    behind["host"] = maximum(how.launch * piece.launches[1] + piece.looped[1] - _total(behind), 0.0)
    level = np.asarray(x.recompute)
    again = {k: where(level >= 2, forward[k], 0.0) for k in forward}
    spared = how.recipe.stops * products * piece.ends
    again["matmul"] = again["matmul"] - where(level >= 2, spared, 0.0)
    again["attention"] = where(level >= 1, forward["attention"], 0.0)
    for module in MODULES:
        for k in CLASSES:
            again[k] = again[k] + x.again(module) * factors[k] * piece.redone[f"{module} {k}"]
    return forward, behind, again, later


def _left(on: Target, x: Layout, how: TrainingFramework) -> Num:
    """Share of a device's units that is left where tokens travel to experts beyond a node beside other work (DualPipe,
    or where the framework sees to it), by kernels that take units of their own."""
    beside_ = (of_schedule(x, lambda c: c.shape.copies) > 1.0) | (how.recipe.aside > 0)
    away = beside_ & (np.asarray(x.ep) > on.system.per_node)
    units = on.rate("bf16")[1].units
    return where(away & (how.recipe.dispatch > 0), 1.0 - UNITS / units, 1.0)


def _beside(link: Num, weights: Num, x: Layout) -> Num:
    """Seconds of the backward pass's collectives that lie beside gradients of weights: of the product that begins each
    block, about half of them. Along a divided sequence the other half, gathered for the product that ends a block, is
    waited for (Megatron-LM's LinearWithGradAccumulationAndAsyncCommunication; arXiv:2205.05198, section 4.2.2)."""
    half = where(np.asarray(x.sequence_parallel) > 0, 0.5, 1.0)
    return minimum(half * link, 0.5 * weights)


def _alone(
    forward: dict[str, Num], behind: dict[str, Num], how: TrainingFramework
) -> tuple[dict[str, Num], dict[str, Num], dict[str, Num], Num]:
    """The times of forward passes without a backward pass."""
    nothing = {k: 0.0 * v for k, v in behind.items()}
    return {k: how.recipe.forwards * v for k, v in forward.items()}, nothing, nothing, 0.0 * _total(nothing)


def _end(work: ModelWork, name: str, x: Layout, how: TrainingFramework) -> Three:
    """Seconds of what stands before or behind the layers: forward, gradients of inputs, gradients of weights."""
    forward: Num = 0.0
    behind: Num = 0.0
    weights: Num = 0.0
    for key, piece in work.ends.items():
        if key.endswith(name):
            f, b, _, w = _times(piece, x, how, wide=True)
            if how.recipe.forwards > 0:
                f, b, _, w = _alone(f, b, how)
            forward, behind, weights = forward + _total(f), behind + _total(b), weights + w
    return forward, behind - weights, weights


def exchange(on: Target, kind: str, size: Num, group: Num, stride: Num, far: Num = 0.0) -> Num:
    """Seconds of a collective of ``size`` bytes a device, by the levels that the group spans.

    Args:
        far: how much slower it is the more nodes it spans, as a power of their number: others use the fabric too.
    """
    if np.all(np.asarray(group) <= 1):
        return 0.0 * num(size)
    buffer = Operand("x", "act", num(size) / 2.0, fmt("bf16"))
    op = Op(
        "collective",
        kind,
        "comm",
        {"bytes": buffer.bytes, "group": num(group), "stride": num(stride)},
        0.0,
        (buffer,),
        (buffer,),
        "fp32",
        options={"collective": kind, "library": True},
    )
    nodes = maximum(num(group) * num(stride) / on.system.per_node, 1.0)
    return price(op, on).time * nodes**far


def _held(
    layers: tuple[Num, Num, Num],
    layer: Mapping[str, Num],
    ends: Mapping[str, Num],
    x: Layout,
    twice: Callable[[Num, Num], Num] = lambda before, after: 0.0,
) -> tuple[Num, Num]:
    """Dense and expert parameters of the fullest stage.

    Args:
        twice: what parameters before and behind the layers count twice where one device has both.
    """
    alone, whole = np.asarray(x.pp) <= 1, np.asarray(x.vocabulary) <= 0
    parts = where(alone | whole, 1.0, x.pp)
    both = (ends[INPUT] + ends[OUTPUT]) / parts - twice(ends[INPUT] / parts, ends[OUTPUT] / parts)
    sides = [(share(x, ends[INPUT], 0.0, at), share(x, 0.0, ends[OUTPUT], at)) for at in (0, 1)]
    own = [before + after - twice(before, after) for before, after in sides]
    most = maximum(maximum(*layers), 0.0) if np.any(np.asarray(x.first + x.last) > 0) else layers[0]
    end = where(whole & ~alone, maximum(*own), both)
    copies = of_schedule(x, lambda c: c.shape.copies)
    return copies * most * layer["layer"] + end, copies * most * layer["experts"]


def updated(on: Target, x: Layout, how: TrainingFramework, moved: tuple[Num, Num]) -> Num:
    """Seconds of the optimizer's update: it reads and writes all of its state once."""
    return how.memory * _shared(x, moved) * how.recipe.update / on.memory.bandwidth


def _shared(x: Layout, moved: tuple[Num, Num]) -> Num:
    """Parameters whose states a device looks after."""
    dense, experts = moved
    shards = np.minimum(x.replicas * of_schedule(x, lambda c: c.shape.copies), x.shard)
    return where(np.asarray(x.zero) >= 1, dense / shards + experts, dense + experts)


def useful(work: ModelWork, x: Layout, how: TrainingFramework) -> Num:
    """Arithmetic of forward and backward passes over all devices: three times that of the forward passes' products,
    or twice where weights have no gradients; that of all forward passes where there is no backward one."""
    one = sum((n * p.flops for p, n in work.layers), 0.0) + sum((p.flops for p in work.ends.values()), 0.0)
    passes = how.recipe.forwards or (2.0 if how.recipe.frozen else 3.0)
    return passes * one * x.micro_batches * x.dp * x.cp * x.tp
