"""How a training step is divided over devices. Every field may be an array: one element a layout."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tierwise.core.errors import BadField
from tierwise.core.num import Num, maximum, num

RECOMPUTE = ("none", "selective", "full")


@dataclass(frozen=True)
class Layout:
    """A layout, or many.

    Attributes:
        tp, pp, dp, cp: tensor, pipeline, data and context parallel degrees; their product is the devices used.
        ep: expert parallel degree, over ``dp * cp`` (and ``tp`` where it is larger).
        interleave: parts of the model on each pipeline stage.
        micro_batch: sequences of a micro-batch; ``global_batch``: sequences of a step; ``seq``: tokens of a sequence.
        sequence_parallel: 1 where what tensor parallelism leaves whole is divided along the sequence.
        recompute: what is computed again in the backward pass, an index into :data:`RECOMPUTE`.
        zero: 0 replicates everything over ``dp``; 1 divides optimizer states, 2 gradients too, 3 parameters too.
        shard: devices that ``zero`` divides over, when fewer than ``dp * cp`` (hybrid sharding).
    """

    tp: Num = 1.0
    pp: Num = 1.0
    dp: Num = 1.0
    cp: Num = 1.0
    ep: Num = 1.0
    interleave: Num = 1.0
    micro_batch: Num = 1.0
    global_batch: Num = 1.0
    seq: Num = 2048.0
    sequence_parallel: Num = 0.0
    recompute: Num = 0.0
    zero: Num = 0.0
    shard: Num = float("inf")

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

    def at(self, index: Any) -> Layout:
        """The layout or layouts of an index into arrays; fields that are no arrays stay."""
        shape = np.broadcast_shapes(*(np.shape(getattr(self, f.name)) for f in fields(self)))
        picked = {f.name: num(np.broadcast_to(getattr(self, f.name), shape)[index]) for f in fields(self)}
        return Layout(**picked)


def legal(layout: Layout, depth: float, heads: Num, per_node: float) -> NDArray[np.bool_]:
    """Which layouts can be: degrees that divide heads, layers and batches; interleaving only of whole pipelines."""
    x = layout
    whole = [
        _divides(x.tp, heads),
        _divides(x.pp * x.interleave, depth),
        _divides(x.dp * x.micro_batch, x.global_batch),
        _divides(x.cp * 2.0, x.seq) | (np.asarray(x.cp) == 1),
    ]
    piped = (np.asarray(x.interleave) == 1) | ((np.asarray(x.pp) > 1) & _divides(x.pp, x.micro_batches))
    shard = (np.asarray(x.sequence_parallel) == 0) | ((np.asarray(x.tp) > 1) & _divides(x.tp, x.seq))
    near = np.asarray(x.tp) <= per_node
    return np.asarray(np.logical_and.reduce(np.broadcast_arrays(*whole, piped, shard, near)), dtype=bool)


def check(layout: Layout, depth: float, heads: float, devices: float) -> None:
    """Refuse one layout that cannot be, with the values that can.

    Raises:
        BadField: with the nearest legal values.
    """
    x = layout
    _need("tp", x.tp, heads, f"a divisor of the {heads:.0f} attention heads")
    _need("pp", x.pp * x.interleave, depth, f"with the interleaving a divisor of the {depth:.0f} layers")
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
    if x.interleave != 1 and x.pp == 1:
        raise BadField("layout", "interleave", x.interleave, "1 without pipeline stages")
    if x.interleave != 1 and x.micro_batches % x.pp:
        raise BadField("layout", "micro_batches", x.micro_batches, f"a multiple of pp = {x.pp:.0f} when interleaved")


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
