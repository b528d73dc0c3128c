"""Memory that weights leave for KV in one engine, and how fast KV leaves it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tierwise.core.num import ceil_div
from tierwise.cost import efficiency
from tierwise.machines import device
from tierwise.memory.footprint import live_activations, weight_bytes
from tierwise.models.lower import lower, state_bytes
from tierwise.models.step import Step
from tierwise.models.types import Model
from tierwise.serving.deployment import Replicas

# Bytes an engine's sampler holds for each logit at its worst: as computed (2), in fp32 (4), sorted (4) with their
# indices (8), and their probabilities (4): PyTorch's sort as vLLM's sampler calls it. Its profiling run samples for as
# many sequences as a step may have.
_LOGIT = 22.0
# What backs the disk tier of the prefix cache where a deployment names no other.
_DISK = "nvme-gen4-dc"


@dataclass(frozen=True)
class Room:
    """Of one engine: ``token`` and ``fixed`` bytes of KV a sequence takes, bytes of ``room`` for it, and the
    bandwidths (bytes/s) and latency (s) of its ways out; ``devices`` it runs on."""

    token: float
    fixed: float
    room: float
    swap: float
    transfer: float
    latency: float
    disk: float
    devices: float


def room_of(model: Model, replicas: Replicas, budget: float, longest: float) -> Room:
    """The memory of one engine, over all its devices.

    The engine takes ``settings.memory`` of each device; of that go weights, the activations of a step of ``budget``
    tokens or the sampler's (what an engine finds out by a profiling run), and the runtime's own reserve. Layers that
    look back only so far are linearized at half and whole ``longest`` context: what they keep counts as fixed.
    """
    s, plan, system = replicas.settings, replace(replicas.plan, mtp=False), replicas.machine
    devices = float(plan.devices)
    depth = float(sum(x.depth for x in model.stacks if x.stream == "text" and x.active))
    held = float(ceil_div(depth, plan.pp)) / depth if depth else 1.0

    def bytes_at(context: float) -> tuple[float, float]:
        kv, state, _ = state_bytes(Step(model, plan, 1.0, 1.0, context - 1.0, "decode"))
        return float(np.max(kv)), float(np.max(state))

    (half, _), (whole, state) = bytes_at(longest / 2.0), bytes_at(longest)
    token = (whole - half) / (longest / 2.0)
    if token <= 0.0:
        token = whole / longest
    fixed = max(whole - token * longest, 0.0) + state
    weights = float(np.max(sum(weight_bytes(model, plan).values(), 0.0)))
    live = float(np.max(live_activations(lower(Step(model, plan, 1.0, budget, 0.0, "prefill")))))
    live = max(live, s.max_seqs * float(np.max(model.vocab)) * _LOGIT)
    memory = system.device.memory.capacity
    free = max(memory * s.memory - weights - live - system.device.reserve, 0.0)
    # A stage holds its layers of every sequence, so the fullest stage decides; ranks hold different sequences.
    ways = float(plan.tp)
    out = system.scale_out if replicas.role != "both" and system.scale_out is not None else system.scale_up
    out = out or system.scale_out or system.device.link("host")
    share = efficiency(system.device, s.engine).link
    host = system.device.link("host")
    disk = device(_DISK).tiers[-1]
    return Room(
        token=token * ways, fixed=fixed * ways, room=free / held * ways * float(plan.dp),
        swap=host.bandwidth * share * devices if host else 0.0,
        transfer=out.bandwidth * share * devices if out else 0.0, latency=out.latency if out else 0.0,
        disk=disk.bandwidth, devices=devices,
    )  # fmt: skip
