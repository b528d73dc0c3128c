"""What a machine is made of: tiers that hold bytes, engines that compute, links that join devices.

CPU, GPU, NPU, FPGA, PIM, microcontroller and disk differ only in their numbers. Nothing here, and no
code anywhere, names a device: the numbers come from ``catalog/*.yaml``, each with its source.
All quantities are SI floats: bytes, bytes per second, FLOP per second (a multiply-add is 2), seconds,
joules per byte, watts, dollars per second. Files give floats; in a sweep over machines any of them may be an array.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tierwise.machines.profile import Profile

if TYPE_CHECKING:
    from tierwise.core.num import Num


@dataclass(frozen=True)
class Tier:
    """A place that holds bytes.

    Attributes:
        name: "hbm", "l2", "dram", "flash", ...
        kind: ``scratchpad`` (software-managed, on chip), ``cache`` (hardware-managed), ``memory`` (where
            weights live by default), ``storage`` (survives power loss; weights may be streamed from it).
        capacity: bytes over the whole device, as its driver reports them.
        bandwidth: bytes per second over the whole device, reading.
        write_bandwidth: the same for writing (equal to ``bandwidth`` unless stated).
        latency: seconds from request to first byte.
        energy: joules per byte read; ``nan`` when no source gives one.
        compute: FLOP per second by dtype of processing in or near this tier (PIM), empty when none.
        source: where the numbers come from.
        write_energy: joules per byte written; ``nan`` where it is not known to differ from reading.
        unit: bytes that are allocated at a time (a page, a DRAM row, a flash block).
        units: how many equal units ``compute`` is made of.
        fanout: instances in named spatial dimensions (banks, PE rows), where the whole is made of equal parts.
        to: names of the tiers and engines that it feeds; empty for the usual chain (:mod:`tierwise.machines.wiring`).
        mapped_bandwidth: bytes per second of files on it that are mapped into memory and larger than it; ``nan`` where
            nobody measured it.
    """

    name: str
    kind: str
    capacity: float
    bandwidth: float
    write_bandwidth: float
    latency: float
    energy: float
    source: str
    compute: Mapping[str, float] = field(default_factory=dict)
    write_energy: float = float("nan")
    unit: float = 1.0
    units: int = 1
    fanout: Mapping[str, int] = field(default_factory=dict)
    to: tuple[str, ...] = ()
    mapped_bandwidth: float = float("nan")


@dataclass(frozen=True)
class Engine:
    """Something that computes.

    Attributes:
        name: "tensor", "vector", "matrix", ...
        kind: ``matrix`` (multiplies tiles) or ``vector`` (elementwise, reductions, scans).
        rates: peak dense FLOP per second by dtype ("fp32", "bf16", "fp8", "int8", "fp4", ...).
        units: how many independent units share the rate (SMs, cores, ...): work is dealt to them in tiles.
        tiles: output tiles (m, n) that one unit computes at its full rate, largest first; empty when the
            unit has no tile granularity.
        sparse: speed-up of structured (2:4) sparsity where the hardware has it, else 1.
        source: where the numbers come from.
        cluster: units that fetch shared operands once for all of them (multicast), 1 for none.
        clock: hertz it boosts to; nan when no source says.
        fanout: processing elements of one unit in named spatial dimensions (``{"rows": 128, "columns": 128}``).
        energy: joules per FLOP by dtype, where somebody published them.
        exponentials: results of special functions a clock and unit, where there are 16 as a rule.
        width: bits of its vectors that the rates count, where software may use narrower ones; 0 where no source says.
    """

    name: str
    kind: str
    rates: Mapping[str, float]
    units: int
    tiles: tuple[tuple[int, int], ...]
    sparse: float
    source: str
    cluster: int = 1
    clock: float = float("nan")
    fanout: Mapping[str, int] = field(default_factory=dict)
    energy: Mapping[str, float] = field(default_factory=dict)
    exponentials: float = 16.0
    width: int = 0


@dataclass(frozen=True)
class Link:
    """A way out of a device.

    Attributes:
        name: "nvlink4", "pcie5", "ib-ndr", ...
        kind: ``scale-up`` (to the devices of the same domain), ``scale-out`` (to other nodes) or ``host``.
        bandwidth: bytes per second, one direction, per device.
        latency: seconds for the smallest message, software included.
        domain: how many devices it joins at full bandwidth.
        topology: ``switch`` (all pairs at full rate), ``ring``, ``mesh`` (direct wires to each peer),
            ``torus``, ``fat-tree``, ``rail``.
        reduces: the fabric itself sums (in-network reduction).
        source: where the numbers come from.
        peer: devices reach each other's memory over it; else what one sends another goes through the host's.
        back: bytes per second of the other direction (into the device); ``nan`` where it is as fast.
        energy: joules per byte; ``nan`` when no source gives one.
    """

    name: str
    kind: str
    bandwidth: float
    latency: float
    domain: int
    topology: str
    reduces: bool
    source: str
    peer: bool = True
    back: float = float("nan")
    energy: float = float("nan")


@dataclass(frozen=True)
class Power:
    """Watts. ``rated`` is what the device may draw (TDP, TBP), ``idle`` what it draws doing nothing."""

    rated: float
    idle: float
    source: str


@dataclass(frozen=True)
class Price:
    """``rent`` in dollars per second, ``list_price`` in dollars; ``nan`` where not public. ``date`` ISO."""

    rent: float
    list_price: float
    date: str
    source: str


@dataclass(frozen=True)
class Dispatch:
    """Seconds between the ends and starts of back-to-back kernels.

    ``eager``: each launched by the host; ``graph``: replayed from a recorded graph or a static program.
    """

    eager: float
    graph: float
    source: str


@dataclass(frozen=True)
class Device:
    """One thing that computes: a GPU, a CPU socket, an NPU, a board.

    ``tiers`` are ordered from the engines outward. ``reserve`` is what the runtime keeps of the main
    memory for itself. ``family`` names the calibration it shares with its siblings.
    ``measured`` is what engines were measured to reach on this very machine, the usual one first. ``process`` is the
    name of its silicon process in nanometres, ``nan`` when no source says.
    """

    name: str
    title: str
    vendor: str
    kind: str
    family: str
    released: str
    tiers: tuple[Tier, ...]
    engines: tuple[Engine, ...]
    links: tuple[Link, ...]
    power: Power
    price: Price
    dispatch: Dispatch
    reserve: float
    sources: Mapping[str, str]
    notes: str = ""
    measured: Mapping[str, Profile] = field(default_factory=dict)
    process: float = float("nan")

    @property
    def memory(self) -> Tier:
        """The tier that weights and caches live in by default."""
        return next(t for t in self.tiers if t.kind == "memory")

    @property
    def cache(self) -> Tier | None:
        """The last on-chip tier before memory, or None (a scratchpad machine without one)."""
        near = [t for t in self.tiers if t.kind in ("cache", "scratchpad")]
        return near[-1] if near else None

    @property
    def clock(self) -> float:
        """Hertz of the vector engine's units; nan when no source says."""
        return next((e.clock for e in self.engines if e.kind == "vector"), float("nan"))

    @property
    def unit_share(self) -> float:
        """Bytes per second of the main memory's bandwidth that fall to one vector unit; nan without one."""
        units = next((e.units for e in self.engines if e.kind == "vector"), None)
        return float("nan") if units is None else self.memory.bandwidth / units

    def link(self, kind: str) -> Link | None:
        """The link of a kind ("scale-up", "scale-out", "host"), or None: the first, of those to the host the fastest,
        which is what copies take."""
        own = [x for x in self.links if x.kind == kind]
        if kind == "host" and len(own) > 1:
            import numpy as np

            return max(own, key=lambda x: float(np.max(x.bandwidth)))
        return own[0] if own else None


@dataclass(frozen=True)
class Host:
    """What stands around the devices of one node, and is shared by them.

    Attributes:
        memory: bytes of its main memory.
        bandwidth: bytes per second of that memory; ``inf`` where nobody said (the link then binds).
        cpu: one of its processors; None when not stated.
        sockets: how many of them.
        storage: disks attached to it.
        source: where the numbers come from.
    """

    memory: float
    bandwidth: float
    cpu: Device | None
    sockets: int
    storage: tuple[Device, ...]
    source: str


@dataclass(frozen=True)
class System:
    """``count`` equal devices: ``per_node`` of them share the scale-up domain, nodes meet over scale-out.

    Attributes:
        name: as the user wrote it ("8xh200-sxm") or as the catalog names it ("dgx-h100").
        device: what it is made of.
        count: devices in all.
        per_node: devices in one scale-up domain.
        scale_up, scale_out: the links between devices of a domain and between domains; None when there is
            no second device, or no way to it.
        overhead_power: watts per device of everything around it (CPU, NICs, fans), 0 when not stated.
        source: where the composition comes from.
        host: what stands around the devices of a node; None when not stated.
        power_cap: watts that a device may draw here, ``nan`` when nobody lowered what it is rated for.
        clock: hertz that the clock is held at, ``nan`` when it is not; the rates of ``device`` are already those at
            this clock.
        rented: devices that are rented together: those of a cloud's instance type, else one.
    """

    name: str
    device: Device
    count: int
    per_node: int
    scale_up: Link | None
    scale_out: Link | None
    overhead_power: float = 0.0
    source: str = ""
    host: Host | None = None
    power_cap: float = float("nan")
    clock: float = float("nan")
    rented: int = 1

    def rent(self, devices: Num) -> Num:
        """Dollars a second of so many devices, paid by whole instances where they are rented so; nan where unknown."""
        import numpy as np

        whole = np.ceil(np.asarray(devices, dtype=float) / self.rented - 1e-9) * self.rented
        paid = (whole if self.rented > 1 else np.asarray(devices, dtype=float)) * self.device.price.rent
        return float(paid) if np.ndim(paid) == 0 else paid

    @property
    def power(self) -> Power:
        """What a device may draw in this system: its rating, or the cap where one was set."""
        import numpy as np

        given = self.device.power
        rated = np.fmin(given.rated, self.power_cap)
        return replace(given, rated=float(rated) if np.ndim(rated) == 0 else rated)

    @property
    def nodes(self) -> int:
        return -(-self.count // self.per_node)

    def with_device(self, **changes: object) -> System:
        """The same system of a changed device (an architect's what-if)."""
        return replace(self, device=replace(self.device, **changes))  # type: ignore[arg-type]
