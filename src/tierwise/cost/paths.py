"""Between two nodes that hold bytes: over which ports and links they go, and how fast.

Nodes are those of :mod:`tierwise.machines.graph`: tiers of the device, ``host`` (the memory of the computer it is in),
that computer's disks; ``""`` stands for the memory that weights and caches live in by default.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tierwise.core.errors import TierwiseError, UnknownName, nearest
from tierwise.core.num import Num, is_zero, maximum, minimum
from tierwise.cost.constants import constant
from tierwise.cost.types import Target
from tierwise.machines.graph import MachineGraph, graph

# What a price calls the links that lead to these nodes.
_LINKS = {"host": "host", "peers": "link", "remote": "network"}


@dataclass(frozen=True)
class Port:
    """One direction of a link, or a tier read or written.

    Attributes:
        name: of the shared capacity: the tier, or a link and direction (``host.in``, ``link.out``).
        bandwidth: bytes per second that one device reaches while all that share the node do the same.
    """

    name: str
    bandwidth: Num


def path(on: Target, source: str, target: str) -> tuple[tuple[Port, ...], Num]:
    """(every port that bytes pass from one node to another, seconds before the first arrives); no ports where both are
    the same node.

    Raises:
        TierwiseError: a node that does not exist or holds nothing, or that no way leads to.
    """
    home = on.memory.name
    source, target = source or home, target or home
    if source == target:
        return (), 0.0
    machine = graph(on.system)
    for name in (source, target):
        _check(on, machine, name)
    try:
        way = machine.path(source, target)
    except UnknownName:
        raise TierwiseError(f"{on.system.name}: no link leads from {source} to {target}") from None
    ports: list[Port] = []
    for e in way.edges:
        # Tiers beside each other are joined by their ports; a link has a rate of its own.
        ends = [x for x in (e.of, e.to) if x in _LINKS]
        for name in ends[:1] if home in (e.of, e.to) else ():
            direction = "in" if e.to == home else "out"
            ports.append(Port(f"{_LINKS[name]}.{direction}", e.bandwidth * on.efficiency.link))
        for name, rate in ((e.of, machine.nodes[e.of].bandwidth), (e.to, machine.nodes[e.to].write_bandwidth)):
            if np.all(np.isfinite(rate)) and not is_zero(rate):
                node = machine.nodes[name]
                at_once = maximum(node.shared / on.taking_turns, 1.0)
                ports.append(Port(name, rate / at_once * on.efficiency.of("memory", "copy")))
    return tuple(ports), way.latency


def mapped(on: Target, source: str, ports: tuple[Port, ...], latency: Num) -> tuple[Port, ...]:
    """The ports of a way from a disk whose file is mapped into memory: as fast as was measured, else pages are read
    ahead in windows, of which the kernel keeps few under way, so latency counts with every window, not once."""
    nodes = graph(on.system).nodes
    if source not in nodes or nodes[source].kind != "storage":
        return ports
    measured = np.asarray(nodes[source].mapped)
    if np.all(np.isfinite(measured)):
        return tuple(replace(p, bandwidth=minimum(p.bandwidth, nodes[source].mapped)) if p.name == source else p
                     for p in ports)  # fmt: skip
    window, ahead = constant("mapped.window"), constant("mapped.ahead")

    def read(p: Port) -> Port:
        return replace(p, bandwidth=minimum(p.bandwidth, ahead * window / (latency + window / p.bandwidth)))

    return tuple(read(p) if p.name == source else p for p in ports)


def pageable(ports: tuple[Port, ...]) -> tuple[Port, ...]:
    """The ports of a way whose host memory is not pinned: the link from it carries a share."""
    share = constant("pageable.share")
    return tuple(replace(p, bandwidth=p.bandwidth * share) if p.name.startswith("host.") else p for p in ports)


def _check(on: Target, machine: MachineGraph, name: str) -> None:
    nodes = [n.name for n in machine.memories() if n.kind in ("memory", "storage")]
    if name in nodes:
        return
    if name == "host":
        raise TierwiseError(
            f"{on.system.name}: {on.device.title} has no link to a host, so no tensor can lie in its memory"
        )
    close = ", ".join(nearest(name, nodes)) or ", ".join(nodes)
    raise TierwiseError(f"{on.system.name}: no node {name!r} that holds tensors; there is {close}")


def seconds(on: Target, source: str, target: str, size: Num) -> dict[str, Num]:
    """Seconds that ``size`` bytes keep each port of the path busy; the narrowest sets the pace. A node that is written
    and read again on the way is busy with both."""
    out: dict[str, Num] = {}
    for p in path(on, source, target)[0]:
        out[p.name] = out.get(p.name, 0.0) + size / p.bandwidth
    return out
