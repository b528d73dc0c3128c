"""Training with part of the state in the host's memory (ZeRO-Offload, arXiv:2101.06840; ZeRO-Infinity, 2104.07857).

With ``optimizer`` a device hands each micro-batch's gradients to the host as wide as they are added up there (DeepSpeed
casts them before the copy, stage_1_and_2.py and stage3.py); the host unscales them in a pass of its own, updates the
weights and hands its master copy back, which the device casts. With ``parameters`` the weights stay there too and are
fetched for every pass. Kept activations can lie there apart from that: each micro-batch's go out as its forward pass
makes them and come back for its backward pass. Copies run beside compute; what they take longer than it is waited for.
Zeroth-order training has no gradients to hand over: a layer comes in, is updated and disturbed where it is used by all
forward passes at once, and goes out again (ZO2, arXiv:2503.12668).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tierwise.core.errors import BadField
from tierwise.core.num import Num, maximum, where
from tierwise.cost import Target, price
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
        TierwiseError: the device has no link to a host, or nobody said how fast the host's memory is.
    """
    level, acts = np.asarray(x.offload), np.asarray(x.offload_activations) > 0
    if how.recipe.forwards > 0:
        size = own * how.recipe.parameters
        ways = maximum(_copy(on, size, inward=False), _copy(on, size, inward=True))
        waited = maximum(where(level >= 2, ways, 0.0) - passes[0], 0.0)
        return Offloaded(x.micro_batches * waited, 0.0 * own)
    out = _copy(on, own * how.recipe.gradients, inward=False)
    fetched = _copy(on, own * _SENT, inward=True)
    back = _copy(on, own * how.recipe.master, inward=True)
    out_acts = _copy(on, kept, inward=False) if np.any(acts) else 0.0
    in_acts = _copy(on, kept, inward=True) if np.any(acts) else 0.0
    outwards = where(level >= 1, out, 0.0)
    # Weights come in once for each pass.
    inwards = where(level >= 2, fetched, 0.0)
    forward = maximum(maximum(inwards + 0.0 * out_acts, where(acts, out_acts, 0.0)) - passes[0], 0.0)
    backward = maximum(maximum(inwards + where(acts, in_acts, 0.0), outwards) - passes[1], 0.0)
    # The host reads and writes gradients to unscale them, then all states once: its memory sets the pace.
    recipe = how.recipe
    each = recipe.update - recipe.around + max(recipe.around, 2.0 * recipe.gradients)
    pace = own * each / (HOST_SHARE * _host_bandwidth(system)) if np.any(level > 0) else 0.0
    update = where(level >= 1, pace + where(level >= 2, 0.0, back), 0.0)
    return Offloaded(x.micro_batches * (forward + backward), update)


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


def _copy(on: Target, size: Num, inward: bool) -> Num:
    """Seconds of a copy between a device and its host."""
    ends = {"from": "host", "to": ""} if inward else {"from": "", "to": "host"}
    return price(Op("copy", "offload", "copy", {"bytes": size}, 0.0, (), (), "", options=ends), on).time
