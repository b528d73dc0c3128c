"""What an op sees that is computed on another node than the device: processing in memory, or the host's processors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tierwise import engines
from tierwise.core.errors import TierwiseError
from tierwise.core.num import Num, maximum, minimum
from tierwise.cost.calibrate import efficiency
from tierwise.cost.kits import kit
from tierwise.cost.types import Framework, Target
from tierwise.machines.types import Device, Engine, Host


def at(on: Target, node: str) -> Target:
    """The target as an op on a node sees it: the node as its memory, what computes there as its engines.

    A tier with compute of its own gives its internal bandwidth and rates, of which nothing was fitted, so prices are
    bounds. ``host`` is the processors of the node's computer, with their own calibration, divided among the devices
    that share them; a drive of the computer that computes is like a tier. ``""`` is the device itself.

    Raises:
        TierwiseError: there is no such node, or nothing computes on it.
    """
    if not node:
        return on
    host = on.system.host
    if node == "host" and host is not None and host.cpu is not None:
        at_once = maximum(on.system.per_node / on.taking_turns, 1.0)
        sockets = _sockets(_computing(on.efficiency.engine), host)
        device = _share(host.cpu, sockets / at_once, host.bandwidth * (sockets / host.sockets) / at_once)
        # Under an engine with kernels of its own for the processor, these run there too.
        name = _computing(on.efficiency.engine)
        own = efficiency(host.cpu)
        if kit(name, host.cpu) is not None:
            own = replace(efficiency(host.cpu, engines.plain(name)), engine=name)
        return replace(on, system=replace(on.system, device=device), efficiency=own, framework=_on_host(on.framework),
                       resident=0.0)  # fmt: skip
    drives = host.storage if host is not None else ()
    able = {t.name: t for d in (*drives, on.device) for t in d.tiers if t.compute}
    if node not in able:
        names = [*able, *(["host"] if host is not None and host.cpu is not None else [])]
        raise TierwiseError(
            f"{on.system.name}: nothing computes on {node!r}; nodes besides its engines that compute: "
            + (", ".join(names) or "none")
        )
    tier = replace(able[node], kind="memory")
    engine = Engine(node, "vector", tier.compute, tier.units, (), 1.0, tier.source)
    device = replace(on.device, tiers=(tier,), engines=(engine,), measured={})
    plain = replace(on.efficiency, fits={}, basis="datasheet")
    return replace(on, system=replace(on.system, device=device), efficiency=plain, framework=None, resident=0.0)


def _on_host(framework: Framework | None) -> Framework | None:
    """A framework whose code the host's processors run too; None where only its products run there."""
    if framework is None or np.isnan(framework.arranged_on_host):
        return None
    return replace(framework, arranged=framework.arranged_on_host)


def _computing(engine: str) -> str:
    """The engine whose kernels a host's processors run."""
    name = engines.plain(engine)
    return (engines.load(name).host if name in engines.names() else "") or engine


def _sockets(engine: str, host: Host) -> float:
    """Sockets whose memory an engine's threads get."""
    name = engines.plain(engine)
    return 1.0 if name in engines.names() and engines.load(name).one_socket else float(host.sockets)


def _share(device: Device, share: Num, most: Num) -> Device:
    """A part of equal processors seen as one, its memory at most as fast as its share of the host's."""

    def rate(tier: str, value: Num) -> Num:
        return minimum(value * share, most) if tier == "memory" else value * share

    tiers = tuple(
        replace(t, capacity=t.capacity * share, bandwidth=rate(t.kind, t.bandwidth),  # type: ignore[arg-type]
                write_bandwidth=rate(t.kind, t.write_bandwidth))  # type: ignore[arg-type]
        for t in device.tiers
    )  # fmt: skip
    computing = tuple(
        replace(e, rates={k: v * share for k, v in e.rates.items()}, units=e.units * share)  # type: ignore[arg-type,misc]
        for e in device.engines
    )
    return replace(device, tiers=tiers, engines=computing)
