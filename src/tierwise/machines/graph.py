"""A machine as a graph: nodes hold bytes, or compute, or both; edges carry bytes, each direction with its own numbers.

The graph is that of one device in its system: its engines and tiers, the host around it, disks, and the other devices
as one node for those of its scale-up domain (``peers``) and one for all beyond (``remote``). Every number may be an
array (an architect's sweep); which nodes and edges there are depends on none of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from tierwise.core.errors import UnknownName
from tierwise.core.num import Num, is_zero, maximum, minimum, where
from tierwise.machines.types import Device, Engine, Link, System, Tier
from tierwise.machines.wiring import feeds

# Kinds of device that are their own host: what they call a host link leads to cards and disks, not to a processor.
_OWN_HOST = ("cpu", "soc", "mcu")


@dataclass(frozen=True)
class Node:
    """What holds bytes, computes, or both (processing in memory or storage).

    Attributes:
        name: of the tier or engine; ``host``, ``peers``, ``remote``; parts of the host's processor are ``host-...``.
        kind: of the tier (``scratchpad``, ``cache``, ``memory``, ``storage``) or engine (``matrix``, ``vector``).
        capacity: bytes; 0 of a node that only computes; ``inf`` where nobody stated it (``source`` says so).
        bandwidth, write_bandwidth: bytes per second of all its ports, reading and writing.
        latency: seconds from request to first byte, as the engines see it.
        energy, write_energy: joules per byte read and written; ``nan`` when no source gives one.
        unit: bytes that are allocated at a time.
        rates: FLOP per second by dtype; empty of a node that only holds.
        units: equal units that share the rates.
        tiles: output tiles (m, n) that one unit computes at its full rate, largest first.
        fanout: instances in named spatial dimensions.
        joules: per FLOP by dtype, where somebody published them.
        shared: devices of the system that share this node.
        mapped: bytes per second of files that are mapped into memory; ``nan`` where nobody measured it.
        source: where the numbers come from.
    """

    name: str
    kind: str
    capacity: Num = 0.0
    bandwidth: Num = math.inf
    write_bandwidth: Num = math.inf
    latency: Num = 0.0
    energy: Num = math.nan
    write_energy: Num = math.nan
    unit: Num = 1.0
    rates: Mapping[str, Num] = field(default_factory=dict)
    units: Num = 1.0
    tiles: tuple[tuple[int, int], ...] = ()
    fanout: Mapping[str, Num] = field(default_factory=dict)
    joules: Mapping[str, Num] = field(default_factory=dict)
    shared: Num = 1.0
    mapped: Num = math.nan
    source: str = ""

    @property
    def holds(self) -> bool:
        """Whether bytes can stay here."""
        return self.kind in ("scratchpad", "cache", "memory", "storage")

    @property
    def computes(self) -> bool:
        return bool(self.rates)


@dataclass(frozen=True)
class Edge:
    """One direction of a port or link: bytes go from ``of`` to ``to``.

    Edges of one ``name`` and direction are one wire (a PCIe slot leads to the host and to the peers): what runs over
    them at once shares it.

    Attributes:
        bandwidth: bytes per second.
        latency: seconds that it adds; those from a tier to an engine add up to the latency of that tier.
        energy: joules per byte, of the wire alone; ``nan`` when no source gives one.
    """

    of: str
    to: str
    name: str
    bandwidth: Num
    latency: Num
    energy: Num = math.nan


@dataclass(frozen=True)
class Route:
    """The way from one node to another.

    Attributes:
        edges: in the order that bytes take; none where the bytes are used where they lie.
        bandwidth: bytes per second of the narrowest edge or port.
        latency: seconds, summed over the edges.
    """

    edges: tuple[Edge, ...]
    bandwidth: Num
    latency: Num


@dataclass(frozen=True)
class MachineGraph:
    """Nodes by name, and directed edges between them."""

    nodes: Mapping[str, Node]
    edges: tuple[Edge, ...]

    def memories(self) -> tuple[Node, ...]:
        """Nodes that hold bytes, those of the device first, from its engines outward."""
        return tuple(n for n in self.nodes.values() if n.holds)

    def computes(self) -> tuple[Node, ...]:
        """Nodes that compute."""
        return tuple(n for n in self.nodes.values() if n.computes)

    def path(self, a: str, b: str) -> Route:
        """The way with the fewest edges on which bytes get from ``a`` to ``b``.

        From a node to itself (processing in memory) there are no edges: the bandwidth is that of the node.

        Raises:
            UnknownName: no such node, or no way between the two.
        """
        for name in (a, b):
            if name not in self.nodes:
                raise UnknownName("node of the machine", name, self.nodes)
        if a == b:
            return Route((), self.nodes[a].bandwidth, self.nodes[a].latency)
        came: dict[str, Edge | None] = {a: None}
        ring = [a]
        while ring and b not in came:
            step = [e for name in ring for e in self.edges if e.of == name]
            ring = []
            for e in step:
                if e.to not in came:
                    came[e.to] = e
                    ring.append(e.to)
        if b not in came:
            raise UnknownName("way to", b, came, f"(bytes of {a!r} never get there)")
        edges: list[Edge] = []
        edge = came[b]
        while edge is not None:
            edges.append(edge)
            edge = came[edge.of]
        edges.reverse()
        ports = [p for e in edges for p in (self.nodes[e.of].bandwidth, self.nodes[e.to].write_bandwidth)]
        return Route(
            tuple(edges),
            minimum(math.inf, *(e.bandwidth for e in edges), *ports),
            sum((e.latency for e in edges), 0.0),
        )


def graph(system: System) -> MachineGraph:
    """One device of a system, with all that bytes of it can come from and go to."""
    device = system.device
    nodes, edges = _device_graph(device)
    main = _main(device)
    host = main if device.kind in _OWN_HOST else "host"
    link = device.link("host")
    if host == "host" and (link is not None or system.host is not None):
        more, inner = _host_graph(system)
        nodes, edges = nodes | more, [*edges, *inner]
        if link is not None and main:
            edges += _linked(main, host, link)
    if system.host is not None:
        for disk in system.host.storage:
            node = _disk(disk, nodes, system.per_node)
            nodes[node.name] = node
            edges += _pair(node, nodes[host])
    for name, kind, way in (("peers", "scale-up", system.scale_up), ("remote", "scale-out", system.scale_out)):
        others = system.per_node - 1 if kind == "scale-up" else system.count - system.per_node
        if way is None or not main or is_zero(others):
            continue
        nodes[name] = _others(name, nodes[main], others, way)
        if way.peer or host not in nodes or host == main:
            edges += _linked(main, name, way)
        else:  # through the memory of the host, over the slot of the sender and that of the receiver
            edges += _linked(host, name, way)
    return MachineGraph(nodes, tuple(edges))


def _main(device: Device) -> str:
    """The name of the tier that links lead to."""
    kinds = ("memory", "storage", "scratchpad", "cache")
    return next((t.name for k in kinds for t in device.tiers if t.kind == k), "")


def _device_graph(device: Device, prefix: str = "", copies: Num = 1.0) -> tuple[dict[str, Node], list[Edge]]:
    """The engines and tiers of ``copies`` devices seen as one."""
    tiers = {t.name: _tier(t, prefix, copies) for t in device.tiers}
    nodes = {n.name: n for n in tiers.values()}
    for e in device.engines:
        made = _engine(e, prefix, copies)
        known = tiers.get(e.name)
        nodes[made.name] = made if known is None else _both(known, made)
    edges: list[Edge] = []
    engines = [e.name for e in device.engines]
    for far, to in feeds(device.tiers, engines).items():
        for near in to:
            if near != far:
                edges += _pair(nodes[prefix + far], nodes[prefix + near])
    own = [prefix + e.name for e in device.engines]
    return {n: nodes[n] for n in [*own, *(n for n in nodes if n not in own)]}, edges


def _tier(t: Tier, prefix: str, copies: Num) -> Node:
    return Node(
        prefix + t.name,
        t.kind,
        t.capacity * copies,
        t.bandwidth * copies,
        t.write_bandwidth * copies,
        t.latency,
        t.energy,
        _known(t.write_energy, t.energy),
        t.unit,
        {k: v * copies for k, v in t.compute.items()},
        t.units * copies,
        fanout=dict(t.fanout),
        mapped=t.mapped_bandwidth,
        source=t.source,
    )


def _engine(e: Engine, prefix: str, copies: Num) -> Node:
    rates = {k: v * copies for k, v in e.rates.items()}
    return Node(prefix + e.name, e.kind, rates=rates, units=e.units * copies, tiles=e.tiles, fanout=dict(e.fanout),
                joules=dict(e.energy), source=e.source)  # fmt: skip


def _both(tier: Node, engine: Node) -> Node:
    """A tier and the engine in it, which have one name."""
    return replace(tier, rates=engine.rates, units=engine.units, tiles=engine.tiles, joules=engine.joules,
                   fanout={**engine.fanout, **tier.fanout})  # fmt: skip


def _host_graph(system: System) -> tuple[dict[str, Node], list[Edge]]:
    """The host's memory, and its processors where the system says which."""
    host = system.host
    if host is None:
        unstated = "the system does not state its host's memory: taken as without limit"
        return {"host": Node("host", "memory", math.inf, shared=system.per_node, source=unstated)}, []
    nodes: dict[str, Node] = {}
    edges: list[Edge] = []
    tier = None
    if host.cpu is not None:
        nodes, edges = _device_graph(host.cpu, "host-", host.sockets)
        tier = nodes.pop(f"host-{host.cpu.memory.name}")
        edges = [_renamed(e, tier.name, "host") for e in edges]
    made = Node(
        "host",
        "memory",
        host.memory,
        host.bandwidth,
        host.bandwidth,
        tier.latency if tier else 0.0,
        tier.energy if tier else math.nan,
        tier.write_energy if tier else math.nan,
        shared=system.per_node,
        source=host.source,
    )
    return {"host": made, **nodes}, edges


def _renamed(e: Edge, old: str, new: str) -> Edge:
    return Edge(new if e.of == old else e.of, new if e.to == old else e.to, e.name, e.bandwidth, e.latency, e.energy)


def _disk(disk: Device, taken: Iterable[str], shared: Num) -> Node:
    tier = next(t for t in disk.tiers if t.kind == "storage")
    made = _tier(tier, "", 1.0)
    name = next(n for n in _names(tier.name) if n not in taken)
    # Others see a drive that computes through its port; it reads what lies on it faster.
    port = disk.link("host")
    if port is not None:
        made = replace(made, bandwidth=minimum(made.bandwidth, port.bandwidth),
                       write_bandwidth=minimum(made.write_bandwidth, port.bandwidth))  # fmt: skip
    return replace(made, name=name, shared=shared)


def _names(base: str) -> Iterable[str]:
    yield base
    i = 2
    while True:
        yield f"{base}-{i}"
        i += 1


def _others(name: str, main: Node, count: Num, way: Link) -> Node:
    """The memory of ``count`` other devices."""
    return Node(
        name, "memory", main.capacity * count, main.bandwidth * count, main.write_bandwidth * count, main.latency,
        main.energy, main.write_energy, main.unit, source=way.source,
    )  # fmt: skip


def _pair(far: Node, near: Node) -> list[Edge]:
    """Both directions between a tier and what it feeds: as fast as both sides, as late as the far one is later."""
    late = maximum(far.latency - (near.latency if near.holds else 0.0), 0.0)
    name = f"{near.name}-{far.name}"
    return [
        Edge(far.name, near.name, name, minimum(far.bandwidth, near.write_bandwidth), late),
        Edge(near.name, far.name, name, minimum(far.write_bandwidth, near.bandwidth), late),
    ]


def _known(value: Num, otherwise: Num) -> Num:
    """The value, or where it is ``nan`` the other."""
    return where(np.isnan(value), otherwise, value)


def _linked(a: str, b: str, link: Link) -> list[Edge]:
    """Both directions of a link, out of the device first."""
    back = _known(link.back, link.bandwidth)
    return [
        Edge(a, b, link.name, link.bandwidth, link.latency, link.energy),
        Edge(b, a, link.name, back, link.latency, link.energy),
    ]
