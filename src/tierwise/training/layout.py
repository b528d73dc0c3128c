"""How a training step is divided over devices. Every field may be an array: one element a layout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tierwise.core.errors import BadField
from tierwise.core.num import Num, ceil_div, maximum, num, where
from tierwise.schedule.closed import Closed
from tierwise.schedule.closed import pipelines as known

RECOMPUTE = ("none", "selective", "full")
# How islands average: all together; each with a few others (arXiv:1705.09056); through a server that all send to and
# that sends back, as clients of federated training do (arXiv:1602.05629).
AVERAGING = ("all_reduce", "gossip", "server")


@dataclass(frozen=True)
class Layout:
    """A layout, or many.

    Attributes:
        tp, pp, dp, cp: tensor, pipeline, data and context parallel degrees; their product is the devices used.
        heads: 1 where context-parallel ranks exchange their part of a sequence for heads around attention
            (arXiv:2309.14509), 0 where keys and values go round a ring (arXiv:2310.01889).
        ep: expert parallel degree, over ``dp * cp`` (and ``tp`` where it is larger).
        interleave: parts of the model on each pipeline stage.
        micro_batch: sequences of a micro-batch; ``global_batch``: sequences of a step; ``seq``: tokens of a sequence.
        sequence_parallel: 1 where what tensor parallelism leaves whole is divided along the sequence.
        recompute: what is computed again in the backward pass, an index into :data:`RECOMPUTE`.
        again_norm, again_act, again_mlp, again_up: 1 where norms, activation functions, whole feed-forward layers or
            maps from latents up to queries, keys and values (MLA) are computed again one by one (``recompute`` below
            2).
        zero: 0 replicates everything over ``dp``; 1 divides optimizer states, 2 gradients too, 3 parameters too.
        shard: devices that ``zero`` divides over, when fewer than ``dp * cp`` (hybrid sharding).
        schedule: of the pipeline, an index into :func:`pipelines`.
        first, last: layers of the first and the last stage; 0 where they have as many as the others.
        vocabulary: 1 where embedding and head are divided over all stages, with one barrier between the head's passes,
            2 with two (arXiv:2411.05288); each barrier is a micro-batch more whose activations are held.
        asynchronous: 1 where collectives of tensor parallelism run, in parts, beside the products next to them
            (doi:10.1145/3567955.3567959).
        overlap: 1 where gradients are averaged beside the backward pass (as far as the framework manages to).
        imbalance: load of the busiest rank of experts over the mean. ``capacity``: what a rank takes at most, over the
            mean; tokens beyond it are dropped.
        attended: pairs of tokens that attend to each other, over those of whole sequences (documents packed into one
            do not attend to each other). ``filled``: share of tokens that are no padding.
        straggler: standard deviation of devices' speeds, over the mean.
        islands: groups of replicas that average their weights only every ``local_steps`` steps. ``averaging``: how, an
            index into :data:`AVERAGING`; ``peers``: islands that each tells, of gossip. ``late``: 1 where nobody waits
            for an average, which arrives during the next round (arXiv:2401.16265, 2401.09135).
        offload: what lies in the host's memory, an index into :data:`tierwise.training.offload.OFFLOAD`.
        offload_activations: 1 where kept activations lie there.
        offload_disk: 1 where weights and optimizer states that ``offload`` takes off the device lie on the host's
            disks, a part on each.
        offload_share: of the optimizer states (and their gradients) that ``offload`` takes off the device; it keeps and
            updates the others (Twin-Flow of DeepSpeed's ZeRO-Offload++).
        early_update: 1 where the host updates a layer's weights beside the backward pass of those before it.
        device_update: share of the optimizer states off the device that it updates itself, while the host updates the
            others: they come in and go out again (arXiv:2410.21316).
    """

    tp: Num = 1.0
    pp: Num = 1.0
    dp: Num = 1.0
    cp: Num = 1.0
    heads: Num = 0.0
    ep: Num = 1.0
    interleave: Num = 1.0
    micro_batch: Num = 1.0
    global_batch: Num = 1.0
    seq: Num = 2048.0
    sequence_parallel: Num = 0.0
    recompute: Num = 0.0
    again_norm: Num = 0.0
    again_act: Num = 0.0
    again_mlp: Num = 0.0
    again_up: Num = 0.0
    zero: Num = 0.0
    shard: Num = float("inf")
    schedule: Num = 0.0
    first: Num = 0.0
    last: Num = 0.0
    vocabulary: Num = 0.0
    asynchronous: Num = 0.0
    overlap: Num = 1.0
    imbalance: Num = 1.0
    capacity: Num = float("inf")
    attended: Num = 1.0
    filled: Num = 1.0
    straggler: Num = 0.0
    islands: Num = 1.0
    local_steps: Num = 1.0
    averaging: Num = 0.0
    peers: Num = 2.0
    late: Num = 0.0
    offload: Num = 0.0
    offload_activations: Num = 0.0
    offload_disk: Num = 0.0
    offload_share: Num = 1.0
    early_update: Num = 0.0
    device_update: Num = 0.0

    @property
    def devices(self) -> Num:
        return self.tp * self.pp * self.dp * self.cp

    @property
    def micro_batches(self) -> Num:
        """Micro-batches of a step and pipeline."""
        return maximum(self.global_batch / (self.dp * self.micro_batch), 1.0)

    @property
    def replicas(self) -> Num:
        """Devices that hold the same parameters: they average gradients."""
        return self.dp * self.cp

    def again(self, module: str) -> Num:
        """1 where a module is computed again by itself; what lies inside of another one is not counted twice."""
        own = where(np.asarray(self.recompute) >= 2, 0.0, getattr(self, f"again_{module}"))
        return where(np.asarray(self.again_mlp) > 0, 0.0, own) if module == "act" else own

    def at(self, index: Any) -> Layout:
        """The layout or layouts of an index into arrays; fields that are no arrays stay."""
        shape = np.broadcast_shapes(*(np.shape(getattr(self, f.name)) for f in fields(self)))
        picked = {f.name: num(np.broadcast_to(getattr(self, f.name), shape)[index]) for f in fields(self)}
        return Layout(**picked)


def pipelines() -> tuple[str, ...]:
    """Names of schedules that :attr:`Layout.schedule` counts."""
    return tuple(known())


def chosen(layout: Layout) -> list[tuple[NDArray[np.bool_], Closed]]:
    """The schedules of a layout's elements: where each is, and its closed forms."""
    index = np.asarray(layout.schedule)
    forms = list(known().values())
    return [(index == k, forms[int(k)]) for k in np.unique(index)]


def of_schedule(layout: Layout, value: Callable[[Closed], Num]) -> Num:
    """A number that depends on the schedule."""
    (_, form), *others = chosen(layout)
    out = value(form)
    for at, form in others:
        out = where(at, value(form), out)
    return out


def held(layout: Layout, depth: Num) -> tuple[Num, Num, Num]:
    """Layers that a micro-batch goes through on the first, a middle and the last stage; where both ends lie on one
    device, each for half of the micro-batches, the mean of them."""
    x = layout
    given = where(np.asarray(x.first) > 0, 1.0, 0.0) + where(np.asarray(x.last) > 0, 1.0, 0.0)
    rest = ceil_div(maximum(depth - x.first - x.last, 0.0), maximum(x.pp - given, 1.0))
    alone = np.asarray(x.pp) <= 1
    first, last = (where(alone, depth, where(np.asarray(n) > 0, n, rest)) for n in (x.first, x.last))
    both = of_schedule(x, lambda c: c.shape.copies) > 1.0
    mean = (first + last) / 2.0
    return where(both, mean, first), where(alone, depth, rest), where(both, mean, last)


def legal(layout: Layout, depth: float, heads: Num, per_node: float) -> NDArray[np.bool_]:
    """Which layouts can be: degrees that divide heads, layers and batches; interleaving only of whole pipelines."""
    x = layout
    m, pp = x.micro_batches, np.asarray(x.pp)
    given = where(np.asarray(x.first) > 0, 1.0, 0.0) + where(np.asarray(x.last) > 0, 1.0, 0.0)
    parts = of_schedule(x, lambda c: c.shape.parts)
    least, even = of_schedule(x, lambda c: c.shape.least), of_schedule(x, lambda c: float(c.shape.even))
    middle, rest = x.pp - given, depth - x.first - x.last
    # Embedding or head may stand in the place of one layer of a part.
    each = x.interleave * maximum(parts, 1.0)
    whole = [
        _divides(x.tp * where(np.asarray(x.heads) > 0, x.cp, 1.0), heads),
        (given == 0) | ((pp >= 2) & (rest >= middle)),
        _divides(maximum(middle, 1.0) * each, where(middle > 0, rest, 0.0)),
        (middle > 0) | (rest == 0),
        *(_divides(each, n) | _divides(each, n + 1.0) for n in (x.first, x.last)),
        _divides(x.dp * x.micro_batch, x.global_batch),
        _divides(x.islands, x.dp),
        (np.asarray(x.shard) >= np.asarray(x.replicas)) | _divides(x.shard, x.replicas),
        _divides(x.cp * 2.0, x.seq) | (np.asarray(x.cp) == 1),
    ]
    piped = (np.asarray(x.interleave) == 1) | ((pp > 1) & _divides(x.pp, m) & (np.asarray(parts) == 0))
    special = (np.asarray(x.schedule) == 0) | ((pp > 1) & (m >= least * x.pp) & (np.asarray(x.zero) <= 1))
    pairs = (np.asarray(even) == 0) | (_divides(2.0, x.pp) & _divides(2.0, m))
    spread = (np.asarray(x.vocabulary) == 0) | (pp > 1)
    sp = np.asarray(x.sequence_parallel)
    shard = (sp == 0) | ((np.asarray(x.tp) > 1) & _divides(x.tp, x.seq))
    # Only what is divided along the sequence is gathered and scattered in parts; experts' exchanges are not.
    beside = (np.asarray(x.asynchronous) == 0) | ((sp > 0) & (np.asarray(x.ep) <= 1))
    near = np.asarray(x.tp) <= per_node
    rows = np.broadcast_arrays(*whole, piped, special, pairs, spread, shard, beside, near)
    return np.asarray(np.logical_and.reduce(rows), dtype=bool)


def check(layout: Layout, depth: float, heads: float, devices: float, experts: float = 0.0) -> None:
    """Refuse one layout that cannot be, with the values that can.

    Args:
        experts: routed experts of a layer.

    Raises:
        BadField: with the nearest legal values.
    """
    x = layout
    _need("tp", x.tp, heads, f"a divisor of the {heads:.0f} attention heads")
    if x.heads:
        _need("cp", x.tp * x.cp, heads, f"with tp a divisor of the {heads:.0f} attention heads that are exchanged")
    _stages(x, depth)
    if float(np.asarray(x.devices)) != devices:
        rest = x.tp * x.pp * x.cp
        raise BadField(
            "layout",
            "tp x pp x dp x cp",
            x.devices,
            f"{devices:.0f}, the devices there are" + (f": dp = {devices / rest:.0f}" if devices % rest == 0 else ""),
        )
    _need(
        "global_batch",
        x.dp * x.micro_batch,
        x.global_batch,
        f"a multiple of dp x micro-batch = {float(np.asarray(x.dp * x.micro_batch)):.0f}",
        x.global_batch,
    )
    if np.isfinite(x.shard):
        if not x.zero:
            raise BadField("layout", "shard", x.shard, "nothing without zero, which divides what replicas hold")
        _need("shard", x.shard, x.replicas, f"a divisor of the {float(np.asarray(x.replicas)):.0f} replicas")
    _need("islands", x.islands, x.dp, f"a divisor of the {float(np.asarray(x.dp)):.0f} replicas")
    _away(x)
    _tokens(x)
    if x.ep > 1:
        ranks = float(np.asarray(x.tp * x.dp * x.cp))
        _need("ep", x.ep, max(experts, 1.0), f"a divisor of the {experts:.0f} experts")
        _need("ep", x.ep, ranks, f"a divisor of the {ranks:.0f} devices of tp x dp x cp")
    if x.vocabulary and x.pp < 2:
        raise BadField("layout", "vocabulary", x.vocabulary, "nothing without pipeline stages to divide it over")
    if x.interleave != 1 and x.pp == 1:
        raise BadField("layout", "interleave", x.interleave, "1 without pipeline stages")
    if x.interleave != 1 and x.micro_batches % x.pp:
        raise BadField("layout", "micro_batches", x.micro_batches, f"a multiple of pp = {x.pp:.0f} when interleaved")


def _tokens(x: Layout) -> None:
    """How the tokens of a sequence are divided."""
    if x.cp > 1 and x.seq % (2.0 * x.cp):
        raise BadField("layout", "cp", x.cp, f"half a divisor of the {x.seq:.0f} tokens: each rank has an early and a "
                       f"late part, as long as the others'")  # fmt: skip
    if x.sequence_parallel and x.tp < 2:
        raise BadField("layout", "sequence_parallel", 1.0, "nothing without tensor parallelism, which divides it")
    if x.sequence_parallel and x.seq % x.tp:
        raise BadField("layout", "seq", x.seq, f"a multiple of tp = {x.tp:.0f}, or no sequence parallelism")
    if x.asynchronous and not x.sequence_parallel:
        raise BadField("layout", "tp_overlap", 1.0, "nothing without sequence parallelism, whose collectives it runs")
    if x.asynchronous and x.ep > 1:
        raise BadField("layout", "tp_overlap", 1.0, "nothing with expert parallelism, whose exchanges do not go in "
                       "parts")  # fmt: skip


def _away(x: Layout) -> None:
    """What says how states off the device are kept and updated, and that there are any."""
    if not x.offload:
        for name in ("offload_disk", "offload_share", "early_update", "device_update"):
            if getattr(x, name) != float(name == "offload_share"):
                raise BadField("layout", name, getattr(x, name), "nothing without offload, when all states are on the "
                               "device")  # fmt: skip
    for name in ("device_update", "offload_share"):
        if not 0 <= getattr(x, name) <= 1:
            raise BadField("layout", name, getattr(x, name), "a share of the states, 0 to 1")


def _stages(x: Layout, depth: float) -> None:
    """Layers on stages, and what the schedule asks for."""
    given = float(bool(x.first)) + float(bool(x.last))
    if given and (x.pp < 2 or depth - x.first - x.last < x.pp - given):
        raise BadField("layout", "first + last", x.first + x.last, f"fewer than the {depth:.0f} layers, on two or more "
                       f"stages (there are {x.pp:.0f})")  # fmt: skip
    (_, form), *_ = chosen(x)
    name, shape = pipelines()[int(float(np.asarray(x.schedule)))], form.shape
    parts = x.interleave * (shape.parts or 1.0)
    said = "with the interleaving " if parts > 1 else ""
    if x.pp - given > 0:
        rest, among = depth - x.first - x.last, (x.pp - given) * parts
        left = "" if not given else f" left for the other {x.pp - given:.0f} stages"
        _need("pp", among, rest, f"{said}a divisor of the {rest:.0f} layers{left}")
    elif x.first + x.last != depth:
        raise BadField("layout", "first + last", x.first + x.last, f"the {depth:.0f} layers of both stages")
    if float(np.asarray(x.schedule)) == 0:
        return
    if x.pp < 2 or x.zero > 1:
        raise BadField("layout", "schedule", name, "one_f_one_b without stages, or with gradients divided")
    if shape.parts and x.interleave != 1:
        raise BadField("layout", "interleave", x.interleave, f"1 under {name}")
    if shape.even and (x.pp % 2 or x.micro_batches % 2):
        raise BadField("layout", "pp", x.pp, f"even, as the micro-batches ({x.micro_batches:.0f}), under {name}")
    if x.micro_batches < shape.least * x.pp:
        raise BadField("layout", "micro_batches", x.micro_batches, f"at least {shape.least * x.pp:.0f} under {name}")


def _need(field: str, part: Num, whole: float | Num, allowed: str, found: Num | None = None) -> None:
    if not bool(np.all(_divides(part, whole))):
        near = "" if found is not None else "; " + nearest(float(np.asarray(part)), float(np.asarray(whole)))
        raise BadField("layout", field, part if found is None else found, allowed + near)


def divisors(whole: int) -> list[int]:
    """What divides a whole number, ascending; nothing divides less than one."""
    small = [d for d in range(1, int(max(whole, 0) ** 0.5) + 1) if whole % d == 0]
    return sorted({*small, *(whole // d for d in small)})


def nearest(value: float, whole: float) -> str:
    """The divisors nearest to a value, in words."""
    near = sorted(sorted(divisors(int(whole)), key=lambda d: abs(d - value))[:2])
    return "nearest: " + " and ".join(map(str, near))


def _divides(part: Num, whole: Num) -> NDArray[np.bool_]:
    return np.asarray(np.equal(np.mod(whole, part), 0.0))
