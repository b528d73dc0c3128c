"""Averaging gradients over replicas: what goes over the wire, and how much of it nothing hides.

Gradients may be sent in fewer bytes (in eight bits, arXiv:1610.02132; the largest alone, arXiv:1712.01887; as products
of thin matrices, arXiv:1905.13727), and islands of replicas may average their weights only every so many steps (local
SGD, arXiv:1805.09767; DiLoCo, arXiv:2311.08105), all together, with neighbours or through a server, waiting for it or
not, while the replicas of an island average gradients at every step.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tierwise.core.errors import BadField
from tierwise.core.num import Num, maximum, minimum, where
from tierwise.cost import Target
from tierwise.models.types import Model, Weight
from tierwise.training.layout import AVERAGING, Layout, of_schedule
from tierwise.training.memory import parameters
from tierwise.training.optimizers import SHAPED, spared
from tierwise.training.recipe import TrainingFramework

# (kind, bytes a device, group, stride) -> seconds
Exchange = Callable[[str, Num, Num, Num], Num]
# Gradients that share a scale of 32 bits, where they are sent in eight.
_SHARED = 256.0


def averaged(
    on: Target, exchange: Exchange, x: Layout, how: TrainingFramework, moved: tuple[Num, Num], thin: tuple[Num, Num],
    slowest: Num,
) -> Num:  # fmt: skip
    """Seconds in which gradients are averaged over the replicas (and new parameters gathered) and nothing else runs.

    Args:
        moved: dense and expert parameters of a device that have gradients.
        thin: elements that go over the wire in their place, as :func:`thinned` counts them.
        slowest: seconds of a micro-batch on the slowest stage.
    """
    dense, experts = moved
    copies = of_schedule(x, lambda c: c.shape.copies)
    whole = x.replicas * copies
    group, stride = whole / x.islands, x.tp
    fewer = maximum(copies * x.replicas * np.minimum(x.tp, x.ep) / x.ep / x.islands, 1.0)
    # Ranks that share out the experts stand next to each other: replicas of one are as far apart as these are many.
    routed = np.any(np.asarray(experts) > 0)
    zero = np.asarray(x.zero)
    packed = how.compress.kind != "none"
    if packed and how.compress.kind != "int8" and np.any(zero > 0):
        raise BadField("--compress", "zero", x.zero, "0: what is chosen or thin is averaged whole, on every replica")

    def wire(count: Num, less: Num, among: Num, stride: Num) -> tuple[Num, Num]:
        """Seconds of gradients, and of new parameters where devices share the update."""
        size, gathered = wired(how)
        near = minimum(among, x.shard)
        parted = exchange("reduce_scatter", less * size, near, stride)
        # A broadcast goes round the ring like the pieces of a gathering, of which each device waits for the last.
        turns = where(how.recipe.turns > 0, near, 1.0)
        back = turns * exchange("all_gather", count * gathered / turns, near, stride)
        if packed:
            parted = parted + where(np.asarray(near) > 1, packing(on, how, count), 0.0)
            plain = _compressed(on, exchange, how, count, less, among, stride)
        else:
            plain = exchange("all_reduce", less * size, among, stride)
        return where(zero >= 1, parted, plain), where(zero >= 1, back, 0.0)

    total, back = (where(zero >= 3, 0.0, seconds) for seconds in wire(dense, thin[0], group, stride))
    if routed:
        more, further = wire(experts, thin[1], fewer, maximum(x.ep, x.tp))
        total, back = total + where(zero >= 3, 0.0, more), back + where(zero >= 3, 0.0, further)
    if how.recipe.returns > 0:
        total, back = total + back, 0.0
    if np.any(np.asarray(x.shard) < np.asarray(group)):
        # Hybrid sharding: groups that each hold everything once average their shards over each other.
        own = minimum(x.shard, group)
        between = exchange("all_reduce", (thin[0] + thin[1]) / own * how.recipe.reduced, group / own, stride * own)
        total = total + where((zero >= 1) & (np.asarray(own) < np.asarray(group)), between, 0.0)
    # Hidden, at most, behind the backward pass of the last micro-batch and the forward pass of the next step's first.
    hidden = where(np.asarray(x.overlap) > 0, 1.0 - how.exposed, 0.0)
    seconds: Num = (1.0 - hidden) * total + maximum(hidden * total - slowest, 0.0) + back
    if np.any(np.asarray(x.islands) > 1):
        waits = _between(exchange, x, 4.0 * (dense + experts), stride * group)
        # Nobody waits for what arrives before the next round is over.
        round_ = x.local_steps * (x.micro_batches * slowest + seconds)
        waits = where(np.asarray(x.late) > 0, maximum(waits - round_, 0.0), waits)
        seconds = seconds + where(np.asarray(x.islands) > 1, waits / maximum(x.local_steps, 1.0), 0.0)
    return seconds


def wired(how: TrainingFramework) -> tuple[float, float]:
    """Bytes of a gradient and of a parameter on the wire between replicas that share them: in eight bits with a scale
    of 32 bits for many of them where both are quantized (QSDP, arXiv:2302.02390; ZeRO++, arXiv:2306.10209)."""
    if how.compress.kind != "int8":
        return how.recipe.reduced, how.recipe.parameters
    small = 1.0 + 4.0 / _SHARED
    return min(small, how.recipe.reduced), min(small, how.recipe.parameters)


def message(how: TrainingFramework, thin: Num) -> Num:
    """Bytes of gradients that a device gives into their averaging.

    Args:
        thin: elements that go in place of its parameters (:func:`thinned`).
    """
    kind, value = how.compress.kind, how.compress.value
    if kind == "powersgd":
        return thin * 4.0
    each = {"none": how.recipe.reduced, "int8": 1.0 + 4.0 / _SHARED, "topk": value * 8.0}
    return thin * each[kind]


def thinned(model: Model, x: Layout, how: TrainingFramework) -> tuple[dict[str, Num], dict[str, Num]] | None:
    """Elements that go over the wire in place of the parameters of one layer on a device, and of those before and
    after the layers: of each matrix two thin ones, and whatever is no matrix whole (arXiv:1905.13727, section 3; its
    authors' RankKReducer); of gradients that are made as some rows alone, these (arXiv:2406.17660). None where
    parameters go themselves, and for adapters, which are thin already."""
    recipe, packed = how.recipe, how.compress.kind == "powersgd"
    if recipe.frozen or not (packed or (recipe.optimizer in SHAPED and SHAPED[recipe.optimizer].early)):
        return None

    def count(w: Weight, local: Num) -> Num:
        if not packed:
            return local - spared(w, local, recipe.optimizer, recipe.projection)
        if w.matrix is None:
            return local
        rows, columns = w.matrix
        rank = minimum(how.compress.value, minimum(rows, columns))
        return local / (rows * columns) * rank * (rows + columns)

    layer, ends = parameters(model, x, count)
    # Embedding and head are made whole.
    return layer, ends if packed else parameters(model, x, lambda w, local: local)[1]


def sent(model: Model, x: Layout, how: TrainingFramework) -> Num:
    """Bytes of gradients that a device of an undivided model gives into their averaging in a step."""
    layer, ends = thinned(model, x, how) or parameters(model, x, lambda w, local: local)
    depth = sum((s.depth for s in model.stacks if s.active and s.stream == "text"), 0.0)
    return message(how, depth * sum(layer.values()) + sum(ends.values()))


def packing(on: Target, how: TrainingFramework, count: Num) -> Num:
    """Seconds of passes over shared parameters and gradients that quantizing both takes: each is read and written
    small, and read small and written again."""
    recipe = how.recipe
    return how.memory * count * (2.0 * 2.0 + recipe.reduced + recipe.parameters) / on.memory.bandwidth


def _between(exchange: Exchange, x: Layout, size: Num, stride: Num) -> Num:
    """Seconds in which islands tell each other how far their weights went, in fp32, after the last of their steps.

    Through a server each device's share goes to one of the server's ports, and back: as many shares as there are
    islands, one after the other.
    """
    kinds = {
        "all_reduce": lambda: exchange("all_reduce", size, x.islands, stride),
        "gossip": lambda: minimum(x.peers, x.islands - 1.0) * exchange("send", size, x.islands, stride),
        "server": lambda: 2.0 * x.islands * exchange("send", size, x.islands, stride),
    }
    how = np.asarray(x.averaging)
    out: Num = 0.0
    for k in np.unique(how):
        out = where(how == k, kinds[AVERAGING[int(k)]](), out)
    return out


def _compressed(
    on: Target, exchange: Exchange, how: TrainingFramework, count: Num, thin: Num, among: Num, stride: Num
) -> Num:
    """Seconds on the wire, and of the passes over gradients that packing and unpacking take."""
    kind, value, full = how.compress.kind, how.compress.value, how.recipe.reduced
    small = message(how, thin)
    if kind == "int8":
        # Shards are unpacked, added and packed again between the two halves of an all-reduce.
        wire = exchange("reduce_scatter", small, among, stride) + exchange("all_gather", small, among, stride)
        passes: Num = 2.0 * (full + 1.0)
    elif kind == "topk":
        # Everyone's own choice: values and positions of everybody reach everybody.
        wire = exchange("all_gather", small * among, among, stride)
        passes = 2.0 * full + 8.0 * value * among
    else:
        # Both thin matrices are averaged one after the other; what is left out is kept for the next step.
        wire = 2.0 * exchange("all_reduce", small / 2.0, among, stride)
        passes = 4.0 * full
    alone = np.asarray(among) <= 1
    return where(alone, 0.0, wire + how.memory * count * passes / on.memory.bandwidth)
