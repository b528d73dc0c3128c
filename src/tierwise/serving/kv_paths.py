"""How fast KV leaves an engine: to host memory, to another engine, to disk."""

from __future__ import annotations

from dataclasses import dataclass

from tierwise.cost import efficiency
from tierwise.machines import device
from tierwise.serving.deployment import Replicas

# What backs the disk tier of the prefix cache where a deployment names no other.
_DISK = "nvme-gen4-dc"


@dataclass(frozen=True)
class KVPaths:
    """Bytes per second of all devices of an engine: ``swap`` to host memory and back, ``transfer`` to another engine
    (after ``latency`` seconds), ``disk``; 0 where there is no way."""

    swap: float
    transfer: float
    latency: float
    disk: float


def kv_paths(replicas: Replicas) -> KVPaths:
    """The ways out of one engine of ``replicas``."""
    system, devices = replicas.machine, float(replicas.plan.devices)
    out = system.scale_out if replicas.role != "both" and system.scale_out is not None else system.scale_up
    out = out or system.scale_out or system.device.link("host")
    share = efficiency(system.device, replicas.settings.engine).link
    host = system.device.link("host")
    return KVPaths(
        swap=host.bandwidth * share * devices if host else 0.0,
        transfer=out.bandwidth * share * devices if out else 0.0,
        latency=out.latency if out else 0.0,
        disk=device(_DISK).tiers[-1].bandwidth,
    )
