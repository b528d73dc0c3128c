"""Bytes on the fullest device while a step runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tierwise.core.num import Num, ceil_div, maximum, minimum, where
from tierwise.machines.types import System
from tierwise.memory.weights import local_elements
from tierwise.models.types import Block, Model, Weight
from tierwise.scenario.types import Plan
from tierwise.training.kept import MODULES, PROJECTED
from tierwise.training.layout import Layout, of_schedule
from tierwise.training.layout import held as layers_of
from tierwise.training.lines import kept_by_lines
from tierwise.training.offload import RESIDENT, asked, disk_room
from tierwise.training.optimizers import OPTIMIZERS, SHAPED, shaped, spared
from tierwise.training.pipeline import in_flight
from tierwise.training.recipe import Recipe, TrainingFramework
from tierwise.training.work import INPUT, OUTPUT, ModelWork, plan_of


@dataclass(frozen=True)
class TrainMemory:
    """Bytes by role on a device of one pipeline stage.

    Attributes:
        stage: which, from 0.
        parts: bytes by role.
        capacity: what a device has, its driver's reserve left out.
        interval: factors on the peak that 80 % of measurements lie between.
        host: bytes of the host's memory that a device's share takes; ``host_capacity``: what there is of it for each
            device, infinite where nobody said. ``disk``, ``disk_capacity``: of its disks.
        kept: bytes that one micro-batch's forward pass keeps.
        shaped: bytes of optimizer states, wherever they lie, that depend on the shapes of matrices.
    """

    stage: Num
    parts: Mapping[str, Num]
    capacity: Num
    interval: tuple[float, float] = (1.0, 1.0)
    host: Num = 0.0
    host_capacity: Num = float("inf")
    disk: Num = 0.0
    disk_capacity: Num = float("inf")
    kept: Num = 0.0
    shaped: Num = 0.0

    @property
    def peak(self) -> Num:
        """Bytes allocated at the worst moment."""
        return sum(self.parts.values(), 0.0)

    @property
    def fits(self) -> NDArray[np.bool_]:
        near = (self.peak <= self.capacity) & (np.asarray(self.host) <= self.host_capacity)
        return np.asarray(near & (np.asarray(self.disk) <= self.disk_capacity))


def parameters(
    model: Model, layout: Layout, count: Callable[[Weight, Num], Num] | None = None
) -> tuple[dict[str, Num], dict[str, Num]]:
    """(parameters of one layer on a device, those before and after the layers): dense ones, and those of experts, which
    fewer devices share.

    Args:
        count: what stands for a weight's parameters on a device, of which it is told how many there are; a shared
            table then counts once.

    Returns:
        ``layer``, ``experts`` (means over the layers); ``input``, ``output``.
    """
    plan = plan_of(layout)
    layer: dict[str, Num] = {"layer": 0.0, "experts": 0.0}
    ends: dict[str, Num] = {INPUT: 0.0, OUTPUT: 0.0}
    for stack in model.stacks:
        if not stack.active or stack.stream != "text":
            continue
        for kind, n in stack.runs():
            for w in kind.weights():
                key = "experts" if w.split == "ep" else "layer"
                size = local_elements(plan, w)
                layer[key] = layer[key] + (size if count is None else count(w, size)) * n / stack.depth
        for key, blocks in ((INPUT, stack.before), (OUTPUT, stack.after)):
            for block in blocks:
                if count is None:
                    ends[key] = ends[key] + _elements(plan, block)
                    continue
                ends[key] = ends[key] + sum((count(w, local_elements(plan, w)) for w in block.weights()), 0.0)
    return layer, ends


def shaped_states(model: Model, layout: Layout, recipe: Recipe) -> tuple[Num, Num]:
    """Bytes of one layer's optimizer states on a device that depend on shapes: of dense matrices, and of experts
    (means over the layers)."""
    plan = plan_of(layout)
    out: list[Num] = [0.0, 0.0]
    for stack in model.stacks:
        if recipe.optimizer not in SHAPED or not stack.active or stack.stream != "text":
            continue
        for kind, n in stack.runs():
            for w in kind.weights():
                at, size = int(w.split == "ep"), local_elements(plan, w)
                out[at] = out[at] + shaped(w, size, recipe.optimizer, recipe.projection) * n / stack.depth
    return out[0], out[1]


def projected(model: Model, layout: Layout) -> Num:
    """Parameters of one layer on a device whose gradients are thin where inputs are kept as projections (mean over the
    layers): those of linear maps whose inputs nothing else keeps."""
    plan = plan_of(layout)
    total: Num = 0.0
    for stack in model.stacks:
        if not stack.active or stack.stream != "text":
            continue
        for kind, n in stack.runs():
            maps = (w for w in kind.weights() if w.role in PROJECTED and w.shape is not None and w.name != "o_proj")
            total = total + sum((local_elements(plan, w) for w in maps), 0.0) * n / stack.depth
    return total


def _unmade(model: Model, layout: Layout, recipe: Recipe, layers: Num) -> Num:
    """Elements of gradients of a stage's dense matrices that are never made."""
    if recipe.optimizer not in SHAPED or not SHAPED[recipe.optimizer].early or recipe.frozen:
        return 0.0
    layer, _ = parameters(model, layout, lambda w, local: spared(w, local, recipe.optimizer, recipe.projection))
    return layers * layer["layer"]


def largest(model: Model, layout: Layout) -> Num:
    """Parameters of the largest weight on a device."""
    plan = plan_of(layout)
    blocks = [b for s in model.stacks for b in (*s.before, *s.after, *(x for k in s.kinds for x in k.blocks))]
    return maximum(0.0, *(local_elements(plan, w) for b in blocks for w in b.weights()))


def _elements(plan: Plan, block: Block) -> Num:
    return sum((local_elements(plan, w) for w in block.weights()), 0.0) + block.facts().tied / plan.tp


def memory_of(
    model: Model, system: System, layout: Layout, how: TrainingFramework, work: ModelWork, stage: str = "fullest"
) -> TrainMemory:
    """The account of the fullest stage, or of the first or last one.

    Args:
        stage: ``fullest``, ``first`` or ``last``.
    """
    # A stage behind the first holds more layers than it, if at all, where they are given.
    places = [0.0, 1.0]
    if np.any(np.asarray(layout.first + layout.last) > 0):
        places.insert(1, 0.5)
    found = [account(model, system, layout, how, work, _portion(model, layout, work, at)) for at in places]
    if stage != "fullest":
        return found[0] if stage == "first" else found[-1]
    out = found[0]
    for other in found[1:]:
        more = np.asarray(out.peak) >= np.asarray(other.peak)
        parts = {k: where(more, out.parts[k], other.parts[k]) for k in out.parts}
        one, two = out, other
        out = replace(
            one,
            stage=where(more, one.stage, two.stage),
            parts=parts,
            host=maximum(one.host, two.host),
            disk=maximum(one.disk, two.disk),
            kept=maximum(one.kept, two.kept),
            shaped=maximum(one.shaped, two.shaped),
        )
    return out


def share(x: Layout, before: Num, behind: Num, at: int) -> Num:
    """Parameters of both ends that the first (0) or last (1) of several stages holds."""
    own = [of_schedule(x, lambda c, e=e: c.shape.holds[at][e]) for e in (0, 1)]  # type: ignore[misc]
    return own[0] * before + own[1] * behind


@dataclass(frozen=True)
class Portion:
    """What one stage of a pipeline has of a model.

    Attributes:
        stage: its number. ``layers``: that a micro-batch goes through on it. ``before``, ``after``: parameters of what
            stands before the layers and behind them. ``head``: share of the logits. ``flying``: micro-batches whose
            activations it holds.
    """

    stage: Num
    layers: Num
    before: Num
    after: Num
    head: Num
    flying: Num


def _portion(model: Model, x: Layout, work: ModelWork, at: float) -> Portion:
    """Of the first (0), the second (0.5) or the last (1) stage."""
    _, ends = parameters(model, x)
    mine = {0.0: 0, 0.5: 1, 1.0: 2}[at]
    layers = layers_of(x, work.depth)
    held = layers[mine] if mine != 1 else where(np.asarray(x.pp) > 2, layers[1], layers[0])
    alone, whole = np.asarray(x.pp) <= 1, np.asarray(x.vocabulary) <= 0
    second = where(np.asarray(x.pp) > 2, 1.0 / maximum(x.pp - 1.0, 1.0), 0.0)
    place: Num = {0: 0.0, 1: second, 2: 1.0}[mine]
    before = where(alone, ends[INPUT], where(whole, share(x, ends[INPUT], 0.0, mine // 2), ends[INPUT] / x.pp))
    after = where(alone, ends[OUTPUT], where(whole, share(x, 0.0, ends[OUTPUT], mine // 2), ends[OUTPUT] / x.pp))
    if mine == 1:
        before, after = (where(alone | (np.asarray(x.pp) <= 2), v, where(whole, 0.0, v)) for v in (before, after))
    head = where(alone, 1.0, where(whole, minimum(share(x, 0.0, 1.0, mine // 2), 1.0) * (mine != 1), 1.0 / x.pp))
    return Portion(place * (x.pp - 1.0), held, before, after, head, in_flight(x, place))


def account(
    model: Model, system: System, layout: Layout, how: TrainingFramework, work: ModelWork, own: Portion
) -> TrainMemory:
    """The bytes of a device of one stage."""
    x, recipe, held = layout, how.recipe, own.layers
    layer, _ = parameters(model, x)
    before = own.before
    after = own.after - shared(model, x, before, own.after)
    copies = of_schedule(x, lambda c: c.shape.copies)
    dense, experts = copies * held * layer["layer"] + before + after, copies * held * layer["experts"]
    # Adapters (or a prefix) are trained instead of the weights, and kept in 16 bits beside them.
    mine, routed = trained(x, how, work, dense, experts)
    adapters = 2.0 * mine if recipe.rank > 0 or recipe.prefix > 0 else 0.0
    shards = minimum(x.replicas * copies, x.shard)
    # Each expert is on fewer devices, which share its states.
    fewer = copies * maximum(x.replicas * minimum(x.tp, x.ep) / x.ep, 1.0) if np.any(np.asarray(experts) > 0) else 1.0
    zero = np.asarray(x.zero)

    def divided(bytes_each: float, level: float, a: Num = mine, b: Num = routed) -> Num:
        return bytes_each * where(zero >= level, a / shards + b / fewer, a + b)

    gathered = where(
        zero >= 3,
        2.0 * (layer["layer"] + layer["experts"]) * recipe.parameters + maximum(before, after) * recipe.parameters,
        0.0,
    )
    blind = recipe.forwards > 0
    more = kept_by_lines(model, x, recipe.casts) if recipe.lines > 0 and not blind else 0.0
    one = 0.0 * dense if blind else _kept(x, how, work) + where(np.asarray(x.recompute) >= 2, 0.0, more)
    peak = maximum(0.0, *(p.working for p, _ in work.layers))
    # Autograd frees what a kernel kept once its backward pass has run: attention's comes behind the feed-forward's.
    gone = 0.0 if blind else how.saves
    peak = maximum(peak, *(p.attending[0] + recipe.score * p.attending[1] - gone * p.freed for p, _ in work.layers))
    saved = maximum(0.0, *(p.saved for p, _ in work.layers)) * how.saves + more
    again = where(np.asarray(x.recompute) >= 2, saved, 0.0)
    # What is computed again of a layer is there while its backward pass runs.
    once = (sum((x.again(m) * p.dropped[m] for m in MODULES), 0.0) * how.saves for p, _ in work.layers)
    again = maximum(again, maximum(0.0, *once))
    if blind:
        # Nothing is kept for a backward pass; the residual stream alone goes on.
        again = maximum(0.0, *(p.given for p, _ in work.layers)) * recipe.forwards
    logits = own.head * work.logits * recipe.logits
    sized, routes = shaped_states(model, x, recipe)
    others = SHAPED[recipe.optimizer].others if recipe.optimizer in SHAPED else 0.0
    plain = float(not recipe.frozen)
    sized, routes = plain * (copies * held * sized + others * (before + after)), plain * copies * held * routes
    sized = where(zero >= 1, sized / shards + routes / fewer, sized + routes)
    thin = (1.0 - recipe.compact) * copies * held * projected(model, x) if recipe.compact < 1.0 else 0.0
    unmade = _unmade(model, x, recipe, held * copies)
    states: dict[str, Num] = {
        "parameters": divided(recipe.parameters, 3.0, dense, experts),
        "gradients": divided(recipe.gradients, 2.0, mine - thin - unmade),
        "optimizer states": divided(recipe.states, 1.0) - divided(OPTIMIZERS[recipe.optimizer], 1.0, thin, 0.0) + sized,
    }
    kept: Num = own.flying * held * one
    host: Num = 0.0
    disk: Num = 0.0
    if asked(x):
        level, acts = np.asarray(x.offload), np.asarray(x.offload_activations) > 0
        layer_size = RESIDENT * (layer["layer"] + layer["experts"]) / where(zero >= 1, shards, 1.0)
        # What stands before and behind the layers stays where its update is.
        ends_size = (before + after) * float(blind)
        bounds = {"optimizer states": (1.0, 0.0), "gradients": (1.0, recipe.gradients * layer_size),
                  "parameters": (2.0, recipe.parameters * (layer_size + ends_size))}  # fmt: skip
        for name, (least, left) in bounds.items():
            # Gradients of what the device updates stay there; those of a layer that is updated at once wait nowhere.
            share = 1.0 if name == "parameters" else x.offload_share
            share = share * (1.0 - x.device_update) if name == "gradients" else share
            away = where(level >= least, maximum(states[name] * share - left, 0.0), 0.0)
            states[name] = states[name] - away
            if name == "gradients":
                host = host + where(np.asarray(x.early_update) > 0, 0.0, away)
            else:
                far = np.asarray(x.offload_disk) > 0
                host, disk = host + where(far, 0.0, away), disk + where(far, away, 0.0)
        away = where(acts, maximum(kept - 2.0 * one, 0.0), 0.0)
        host, kept = host + away, kept - away
    # A weight is changed before it is used, or after: beside the residual stream, not beside what an op works on.
    noise = recipe.noise * recipe.parameters * largest(model, x) if recipe.noise > 0 else 0.0
    waiting = kept + maximum(again + peak, logits, again + noise)
    fresh = (np.asarray(x.micro_batches) <= 1) & (recipe.transient > 0)
    states["gradients"] = where(fresh, maximum(states["gradients"] - waiting, 0.0), states["gradients"])
    # The largest layer is recomputed, or the loss is taken, not both at once.
    parts: dict[str, Num] = {
        "parameters": states["parameters"]
        + gathered
        + adapters
        # Embedding and head stay in 16 bits where the layers are in fewer.
        + max(2.0 - recipe.parameters, 0.0) * (before + after),
        "gradients": states["gradients"] + recipe.also * (mine + routed) + _mixed(x, recipe, dense + experts),
        "optimizer states": states["optimizer states"],
        "activations": waiting,
        "buffers": how.overhead + 0.0 * dense,
    }
    return TrainMemory(
        own.stage, parts, system.device.memory.capacity - system.device.reserve, how.memory_interval,
        host, _host_of(system), disk, disk_room(system), held * one, sized,
    )  # fmt: skip


def _mixed(x: Layout, recipe: Recipe, held: Num) -> Num:
    """Bytes of gradients of frozen weights that lie in one sharded unit with adapters: the unit has them all (PyTorch's
    FSDP with ``use_orig_params``), and has them whole while micro-batches are added up without being averaged."""
    if recipe.mixed <= 0 or recipe.rank <= 0:
        return 0.0 * held
    whole = recipe.parameters * held / where(np.asarray(x.micro_batches) > 1, 1.0, minimum(x.replicas, x.shard))
    return where(np.asarray(x.zero) >= 3, whole, 0.0)


def _host_of(system: System) -> float:
    """Bytes of the host's memory for each of its devices."""
    stated = system.host is not None and system.host.memory > 0
    return system.host.memory / system.per_node if stated and system.host is not None else float("inf")


def trained(x: Layout, how: TrainingFramework, work: ModelWork, dense: Num, experts: Num) -> tuple[Num, Num]:
    """Dense and expert parameters of a device that have gradients."""
    if not how.recipe.frozen:
        return dense, experts
    if how.recipe.slices or how.recipe.prefix > 0:
        return ceil_div(work.depth, x.pp) * sum((n / work.depth * p.sliced for p, n in work.layers), 0.0), 0.0 * experts
    return how.recipe.rank * held_adapters(x, work), 0.0 * experts


def held_adapters(x: Layout, work: ModelWork) -> Num:
    """Parameters that a rank of one adds to the linear maps of a device's layers."""
    mean = sum((n / work.depth * p.adapters for p, n in work.layers), 0.0)
    return ceil_div(work.depth, x.pp) * mean


def _kept(layout: Layout, how: TrainingFramework, work: ModelWork) -> Num:
    """Bytes that one layer keeps of one micro-batch."""
    total: Num = 0.0
    for piece, n in work.layers:
        full = piece.given
        # Two masks of a byte an element are as many bytes as the stream in 16 bits.
        selective = (piece.saved - piece.scores) * how.saves + how.recipe.gathered * piece.whole
        selective = selective + how.recipe.dropout * piece.given
        level = np.asarray(layout.recompute)
        selective = selective - how.saves * sum((layout.again(m) * piece.dropped[m] for m in MODULES), 0.0)
        kept = where(level >= 2, full, where(level >= 1, selective, selective + piece.scores))
        total = total + n / work.depth * kept
    return total


def shared(model: Model, x: Layout, before: Num, after: Num) -> Num:
    """Parameters that both ends count and a device has once: those of a tied table, where both ends lie on it."""
    table = sum((b.facts().tied for s in model.stacks for b in s.after), 0.0) / x.tp
    divided = where(np.asarray(x.vocabulary) <= 0, 1.0, x.pp)
    return where((np.asarray(before) > 0) & (np.asarray(after) > 0), table / divided, 0.0)
