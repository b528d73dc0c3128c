"""Training with part of the state in the host's memory (ZeRO-Offload, arXiv:2101.06840; ZeRO-Infinity, 2104.07857).

With ``optimizer`` a device hands each micro-batch's gradients to the host as wide as they are added up there (DeepSpeed
casts them before the copy, stage_1_and_2.py and stage3.py); the host unscales them in a pass of its own, updates the
weights and hands its master copy back, which the device casts. With ``parameters`` the weights stay there too and are
fetched for every pass. Kept activations can lie there apart from that: each micro-batch's go out as its forward pass
makes them and come back for its backward pass. Copies run beside compute; what they take longer than it is waited for.
States can lie on the host's disks instead (ZeRO-Infinity), each disk with a part of every tensor: then they are read,
updated and written one after the other when the backward pass is over, as DeepSpeed does by default (``pipeline_read``
and ``pipeline_write`` of its configuration), or layer by layer beside the backward pass (arXiv:2403.06504). And the
device can update a share of the states itself, which come in and go out while the host updates the others
(arXiv:2410.21316): both then draw on the host's memory.
Zeroth-order training has no gradients to hand over: a layer comes in, is updated and disturbed where it is used by all
forward passes at once, and goes out again (ZO2, arXiv:2503.12668).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tierwise.core.errors import BadField
from tierwise.core.num import Num, maximum, where
from tierwise.cost import Target, price
from tierwise.machines.graph import graph
from tierwise.machines.types import System
from tierwise.program.types import Op
from tierwise.training.layout import Layout
from tierwise.training.recipe import TrainingFramework

OFFLOAD = ("none", "optimizer", "parameters")
# Layers on a device of what comes and goes: one that is worked on, and one that is on its way. What a zeroth-order step
# changes goes out before the next comes in.
RESIDENT = 2.0
# Bytes of a working weight on its way to a pass.
_SENT = 2.0
# What plain code on all of a memory node's cores reaches of its memory's rated bandwidth in an update. Chosen on four
# logs of DeepSpeed's CPUAdam, each process bound to one of four nodes of an EPYC 7543P (two channels of DDR4-3200,
# seven cores): 1.32 ns a parameter for 5.9 to 15.6 billion parameters, of which 0.16 are the way back
# (github.com/mauryaavinash95/deep-optimizer-states-results, act-output-*-scale-gaps-a100, prefetch0-flush_async0).
# Processes that are not bound take 1.5 times as long (its act-output-13B-scale-DP).
HOST_SHARE = 0.64


@dataclass(frozen=True)
class Offloaded:
    """Seconds of a step that copies to and from the host and its update add.

    Attributes:
        copies: that compute does not hide. ``update``: by the host, and the weights' way back.
    """

    copies: Num
    update: Num


def asked(layout: Layout) -> bool:
    """Whether anything lies in the host's memory."""
    return bool(np.any(np.asarray(layout.offload) > 0) or np.any(np.asarray(layout.offload_activations) > 0))


def offloaded(
    on: Target, system: System, x: Layout, how: TrainingFramework, own: Num, kept: Num, passes: tuple[Num, Num]
) -> Offloaded:
    """What offloading adds to a step.

    Args:
        own: parameters whose states a device looks after.
        kept: bytes that a micro-batch's forward pass keeps on a device.
        passes: seconds of a micro-batch's forward and backward pass.

    Raises:
        TierwiseError: the device has no link to a host, or nobody said how fast the host's memory is, or that it has
            disks.
    """
    level, acts = np.asarray(x.offload), np.asarray(x.offload_activations) > 0
    if how.recipe.forwards > 0:
        if any(np.any(np.asarray(n) > 0) for n in (x.offload_disk, x.early_update, x.device_update)):
            raise BadField("layout", "offload", "states on disks or shared updates", "the host's memory alone: "
                           "zeroth-order training has no states")  # fmt: skip
        size = own * how.recipe.parameters
        ways = maximum(_copy(on, size, inward=False), _copy(on, size, inward=True))
        waited = maximum(where(level >= 2, ways, 0.0) - passes[0], 0.0)
        return Offloaded(x.micro_batches * waited, 0.0 * own)
    lanes = _update(on, system, x, how, own)
    share, disk = np.asarray(x.device_update), np.asarray(x.offload_disk) > 0
    sent = (1.0 - share) * x.offload_share * own
    out = where(level >= 1, _copy(on, sent * how.recipe.gradients, inward=False), 0.0)
    # Weights come in once for each pass.
    fetched = where(level >= 2, _copy(on, own * _SENT, inward=True), 0.0)
    weights = where((level >= 2) & disk, _disks(on, own * _SENT, inward=True), 0.0) if np.any(disk) else 0.0
    waits = (how.recipe.waits > 0) & (np.asarray(x.zero) >= 3) & (level >= 1)
    handed = where(waits, _handed(on, system, sent, how.recipe.gradients), 0.0) if np.any(waits) else 0.0
    beside = where(waits, 0.0, out)
    out_acts = where(acts, _copy(on, kept, inward=False), 0.0) if np.any(acts) else 0.0
    in_acts = where(acts, _copy(on, kept, inward=True), 0.0) if np.any(acts) else 0.0
    forward = maximum(maximum(maximum(fetched, out_acts), weights) - passes[0], 0.0)
    backward = maximum(maximum(maximum(fetched + in_acts, beside), weights) - passes[1], 0.0) + handed
    # One after the other; or side by side, when the slowest lane sets the pace.
    turns = lanes.read + lanes.pace + lanes.written + where(level >= 2, 0.0, lanes.inwards)
    longest = maximum(maximum(lanes.pace, lanes.read + lanes.written), maximum(lanes.inwards, lanes.outwards))
    after = where(share > 0, longest, turns)
    all_lanes = maximum(
        maximum(lanes.pace, lanes.read + lanes.written + weights),
        maximum(lanes.inwards + fetched, lanes.outwards + beside),
    )
    early = maximum(all_lanes - passes[1] - backward, 0.0)
    update = where(level >= 1, where(np.asarray(x.early_update) > 0, early, after), 0.0)
    return Offloaded(x.micro_batches * (forward + backward), update)


@dataclass(frozen=True)
class _Lanes:
    """Seconds in which an update keeps the host's memory (``pace``), the link's directions and the disks busy."""

    pace: Num
    inwards: Num
    outwards: Num
    read: Num
    written: Num


def _update(on: Target, system: System, x: Layout, how: TrainingFramework, own: Num) -> _Lanes:
    """What an update moves: see :func:`offloaded`."""
    level, disk = np.asarray(x.offload), np.asarray(x.offload_disk) > 0
    if not np.any(level > 0):
        return _Lanes(*[0.0 * own] * 5)
    recipe, share = how.recipe, x.device_update
    own = x.offload_share * own
    states = recipe.states * own
    fresh = where(level >= 2, recipe.parameters * own, 0.0)
    # The host reads and writes gradients to unscale them, then all states once; what the device updates is read and
    # written on its way, and so is what lies on disks.
    each = recipe.update - recipe.around + max(recipe.around, 2.0 * recipe.gradients)
    stored = where(disk, 2.0 * states + fresh, 0.0)
    traffic = (1.0 - share) * own * each + 2.0 * share * states + stored
    back = where(level >= 2, 0.0, (1.0 - share) * recipe.master * own)
    return _Lanes(
        traffic / (HOST_SHARE * _host_bandwidth(system)),
        _copy(on, share * states + back, inward=True),
        _copy(on, share * (states + fresh), inward=False) if np.any(np.asarray(share) > 0) else 0.0,
        where(disk, _disks(on, states, inward=True), 0.0) if np.any(disk) else 0.0,
        where(disk, _disks(on, states + fresh, inward=False), 0.0) if np.any(disk) else 0.0,
    )


def _handed(on: Target, system: System, size: Num, wide: float) -> Num:
    """Seconds in which gradients reach the host in a copy that the pass waits for: in the 16 bits they were made in, to
    memory that is not pinned, where the host casts them to ``wide`` bytes (PyTorch's aten/src/ATen/native/cuda/Copy.cu:
    blocking copies between formats convert on the CPU; DeepSpeed's stage3.py of 2024 copies so)."""
    ends = {"from": "", "to": "host", "pageable": True}
    copied = price(Op("copy", "offload", "copy", {"bytes": size * _SENT}, 0.0, (), (), "", options=ends), on).time
    return copied + size * (_SENT + wide) / (HOST_SHARE * _host_bandwidth(system))


def _host_bandwidth(system: System) -> float:
    """Bytes a second of the host's memory for each of its devices.

    Raises:
        BadField: nobody said how fast it is.
    """
    bandwidth = 0.0 if system.host is None else system.host.bandwidth
    if not np.isfinite(bandwidth) or bandwidth <= 0:
        raise BadField(system.name, "host", "nothing", "the memory of the host, which updates what is offloaded: a "
                       "machine file with `host: {cpu: epyc-7742, sockets: 2}`")  # fmt: skip
    return bandwidth / system.per_node


def _copy(on: Target, size: Num, inward: bool, far: str = "host", near: str = "") -> Num:
    """Seconds of a copy between a device and its host, or between two other places."""
    ends = {"from": far, "to": near} if inward else {"from": near, "to": far}
    return price(Op("copy", "offload", "copy", {"bytes": size}, 0.0, (), (), "", options=ends), on).time


def _disks(on: Target, size: Num, inward: bool) -> Num:
    """Seconds in which the host's disks, each with an equal part, are read or written.

    Raises:
        BadField: there are none.
    """
    names = disks(on.system)
    if not names:
        raise BadField(on.system.name, "disks", "none", "a machine with disks: 1xrtx4090 + epyc-7742 + 2x nvme-gen4")
    return maximum(0.0, *(_copy(on, size / len(names), inward, name, "host") for name in names))


def disks(system: System) -> tuple[str, ...]:
    """Names of the disks of a machine's host."""
    storage = () if system.host is None else system.host.storage
    return tuple(n.name for n in graph(system).memories() if n.kind == "storage")[-len(storage):] if storage else ()


def disk_room(system: System) -> float:
    """Bytes of the host's disks for each of its devices, equal parts on each; infinite where nobody named any."""
    nodes = graph(system).nodes
    sizes = [float(nodes[name].capacity) for name in disks(system)]
    return len(sizes) * min(sizes) / system.per_node if sizes else float("inf")
