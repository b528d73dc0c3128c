"""A price is a bound plus its reason."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping as Dict
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tierwise.core.num import Num, is_array, is_zero, maximum, where
from tierwise.core.numerics import Names
from tierwise.cost.mapping import Mapping
from tierwise.machines.types import Device, Engine, System, Tier
from tierwise.program.kernels import KernelRules
from tierwise.program.types import Op

# What a price may rest on, the surest first.
BASES = ("measured", "calibrated", "transferred", "datasheet")


@dataclass(frozen=True)
class Cost:
    """What one op costs on one device.

    Attributes:
        overlapped: seconds by resource that work at the same time (``compute``, tier names, ``link``,
            ``launch``): the largest bounds the op.
        serial: seconds that come on top (``dispatch``, ``latency``).
        flops: arithmetic of the op.
        bytes: traffic by tier or link, bytes.
        basis: what the price rests on: ``measured``, ``calibrated``, ``transferred`` or ``datasheet``.
        interval: factors on the time that 80 % of measurements lie between.
    """

    overlapped: Dict[str, Num]
    serial: Dict[str, Num]
    flops: Num
    bytes: Dict[str, Num] = field(default_factory=dict)
    basis: str = "datasheet"
    interval: tuple[Num, Num] = (1.0, 1.0)

    @property
    def busy(self) -> Num:
        """Seconds of the binding resource."""
        return maximum(*self.overlapped.values()) if self.overlapped else 0.0

    @property
    def time(self) -> Num:
        """Seconds."""
        return self.busy + sum(self.serial.values(), 0.0)

    @property
    def bound_by(self) -> Names:
        """The resource that takes the most time; an array of names for an array of configurations."""
        return name_of_largest({**self.overlapped, **self.serial})


def either(condition: NDArray[np.bool_], yes: Cost, no: Cost) -> Cost:
    """One of two costs for each configuration. It rests on the less sure of both."""

    def pick(a: Dict[str, Num], b: Dict[str, Num]) -> dict[str, Num]:
        return {k: where(condition, a.get(k, 0.0), b.get(k, 0.0)) for k in {**a, **b}}

    low, high = (where(condition, a, b) for a, b in zip(yes.interval, no.interval, strict=True))
    return Cost(
        pick(yes.overlapped, no.overlapped),
        pick(yes.serial, no.serial),
        where(condition, yes.flops, no.flops),
        pick(yes.bytes, no.bytes),
        max(yes.basis, no.basis, key=BASES.index),
        (low, high),
    )


def name_of_largest(parts: Dict[str, Num]) -> Names:
    """The key of the largest value, elementwise for arrays."""
    names = list(parts)
    values = np.broadcast_arrays(*(np.asarray(v, dtype=float) for v in parts.values()))
    best = np.argmax(np.stack(values), axis=0)
    return np.asarray(names)[best] if best.ndim else names[int(best)]


@dataclass(frozen=True)
class Fit:
    """Coefficients fitted to measurements of one op class: fractions without unit, or seconds.

    Attributes:
        op, dtype, engine: the class; ``"*"`` is any other dtype, or the kernels of a typical engine.
        values: coefficients by name. Arrays when the dtypes asked for are an array.
        basis: ``calibrated`` when the device itself was measured, ``transferred`` when a sibling was.
        interval: factors on the time that 80 % of measurements lie between.
        source: data, rows and date.
        errors: how well it does: rows, median, mean and p90 relative error, the same on held-out shapes.
        version: of the engine that the rows were recorded under; ``""`` where the class is nobody's.
        plain: the interval on the device and the version that it was fitted on.
    """

    op: str
    dtype: str
    engine: str
    values: Dict[str, Num]
    basis: str
    interval: tuple[Num, Num]
    source: str
    errors: Dict[str, float] = field(default_factory=dict)
    version: str = ""
    plain: tuple[Num, Num] = (1.0, 1.0)

    def __getitem__(self, name: str) -> Num:
        return self.values[name]


@dataclass(frozen=True)
class Efficiency:
    """What kernels reach: fractions of the datasheet's rates, and fitted coefficients where there are any.

    Attributes:
        name: calibration file they come from.
        compute, memory, cache: fractions by op class, with ``"*"`` for all others.
        link: fraction of a link's bandwidth.
        collective: latencies and rates of a collective library's protocols, see :mod:`tierwise.cost.collective`.
        basis, interval: as in :class:`Cost`.
        source: where the numbers come from.
        fits: coefficients by (op class, dtype, engine).
        engine: whose kernels run (``vllm``, or one kernel of it: ``vllm:<kernel>``); ``""`` for those of a typical
            serving engine.
    """

    name: str
    compute: Dict[str, float]
    memory: Dict[str, float]
    cache: Dict[str, float]
    link: float
    collective: Dict[str, tuple[float, float, float]]
    basis: str
    interval: tuple[float, float]
    source: str
    fits: Dict[tuple[str, str, str], Fit] = field(default_factory=dict)
    engine: str = ""

    def of(self, table: str, kind: str) -> float:
        values: Dict[str, float] = getattr(self, table)
        return values.get(kind, values["*"])

    def fit(self, op: str, dtype: Names = "*") -> Fit | None:
        """The coefficients of a class: of this engine, else of a typical one; of the dtype, else of any.

        An array of dtypes gives arrays of coefficients. None where the class (or one of the dtypes) was not fitted.
        """
        if not is_array(dtype):
            engines = (self.engine, self.engine.split(":")[0], "*")
            keys = [(op, d, e) for d in (str(dtype), "*") for e in engines]
            return next((self.fits[k] for k in keys if k in self.fits), None)
        distinct, index = np.unique(np.asarray(dtype), return_inverse=True)
        index = index.reshape(np.shape(dtype))
        found = [self.fit(op, str(d)) for d in distinct]
        parts = [f for f in found if f is not None]
        if len(parts) < len(found):
            return None

        def pick(values: list[Num]) -> Num:
            if len(values) == 1:
                return values[0]
            if not any(map(is_array, values)):
                return np.asarray(values, dtype=float)[index]
            # Coefficients that follow a device's rates are arrays where these are.
            return sum((where(index == i, x, 0.0) for i, x in enumerate(values)), 0.0)

        return Fit(
            op,
            "/".join(map(str, distinct)),
            parts[0].engine,
            # What only some kernels have (``write``) is nothing in the others.
            {name: pick([p.values.get(name, 0.0) for p in parts]) for name in {n: 0 for p in parts for n in p.values}},
            max((p.basis for p in parts), key=("calibrated", "transferred").index),
            (pick([p.interval[0] for p in parts]), pick([p.interval[1] for p in parts])),
            parts[0].source,
        )


@dataclass(frozen=True)
class Framework:
    """How one framework runs a model's ops.

    Attributes:
        name, title: file name, and what it is called.
        host: seconds of its interpreter for each kernel, on top of the machine's eager launch.
        kernels: kernels of an op by its class (as in :func:`tierwise.cost.measured.describe`), 1 where not named; of a
            matmul, for each of its projections.
        traffic: bytes its kernels move over what one fused kernel moves, by class, 1 where not named; of a kernel that
            moves them slowly, as many as the bus would have moved meanwhile.
        scores: bytes moved for each attention score, when scores are written. ``alive``: of it and what is made of it,
            at once; None where one kernel makes the softmax of all.
        interval: factors on the host's time that 80 % of hosts are expected between.
        source: of all of these.
        rules: how it takes graphs of ops apart and together, where it runs those; its kernels then are what is left,
            and the counts above do not hold.
        channels_last: its activations lie as tensor cores read them, so that convolutions transpose nothing.
        unpack: bytes of memory moved for each element of weights and caches in a format, by its name, to expand them to
            16 bits with plain tensor operations before what reads them. ``pack``: to bring new keys and values into it.
        arranged: bytes moved for each key and value before a decoding step's products, to lay the cache out for them;
            ``arranged_on_host``: where the host's processors compute attention, nan where it runs no code there.
    """

    name: str
    title: str
    host: float
    kernels: Dict[str, float]
    traffic: Dict[str, float]
    scores: float
    interval: tuple[float, float]
    source: str
    rules: KernelRules | None = None
    channels_last: bool = True
    alive: float | None = None
    unpack: Dict[str, float] = field(default_factory=dict)
    pack: Dict[str, float] = field(default_factory=dict)
    arranged: float = 0.0
    arranged_on_host: float = float("nan")


# Wider formats a device falls back to when it has no arithmetic in the wanted one, in order.
_INSTEAD = {
    "fp4": ("fp8", "bf16", "fp16", "fp32"),
    "fp6": ("fp8", "bf16", "fp16", "fp32"),
    "fp8": ("bf16", "fp16", "fp32"),
    "bf16": ("fp16", "fp32"),
    "fp16": ("bf16", "fp32"),
    "tf32": ("fp32",),
    "fp32": ("tf32",),
    "fp64": ("fp32",),
    "int8": ("fp16", "bf16", "fp32"),
    "int4": ("int8", "fp16", "bf16", "fp32"),
}


@dataclass(frozen=True)
class Target:
    """A device in its system, as prices see it.

    Attributes:
        system: the machine.
        efficiency: calibration in force.
        graphs: kernels are replayed, not launched one by one; :func:`tierwise.cost.price` alone takes an array.
        framework: the eager framework that launches them; None for an engine's own kernels.
        resident: weights stay in the last cache from one pass to the next (0 or 1, may be an array).
        working: bytes of weights one pass reads in all; 0 where prices do not ask.
        weight_copies: an op is timed alone in a loop over so many copies of its weights, which the last cache may hold
            from one turn to the next (0: it runs among others that evict them); ``input_copies`` of its inputs.
        mapping: how ops are laid out on a spatial array; None, or None for an op, leaves it to other providers.
        taking_turns: devices of a node of which one works at a time (stages that one sequence passes), so that what
            they share serves it alone; 1 where all work at once.
    """

    system: System
    efficiency: Efficiency
    graphs: bool | NDArray[np.bool_] = True
    framework: Framework | None = None
    resident: Num = 0.0
    working: Num = 0.0
    weight_copies: float = 0.0
    input_copies: float = 1.0
    mapping: Callable[[Op], Mapping | None] | None = None
    taking_turns: Num = 1.0

    @property
    def device(self) -> Device:
        return self.system.device

    @property
    def memory(self) -> Tier:
        return self.system.device.memory

    def rate(self, arithmetic: Names, kind: str = "matrix") -> tuple[Num, Engine]:
        """(peak FLOP/s of the best engine for a dtype, that engine). Arrays of dtypes give arrays of rates."""
        if is_array(arithmetic):
            distinct, index = np.unique(np.asarray(arithmetic), return_inverse=True)
            found = [self.rate(str(a), kind) for a in distinct]
            index = index.reshape(np.shape(arithmetic))
            rates: Num = where(index == 0, found[0][0], 0.0)
            for i, (rate, _) in enumerate(found[1:], 1):
                rates = where(index == i, rate, rates)
            return rates, found[0][1]
        return _best(self.device, str(arithmetic), kind)

    def cost(
        self,
        kind: str,
        overlapped: Dict[str, Num],
        flops: Num,
        moved: Dict[str, Num],
        *,
        kernels: Num = 1.0,
        latency: bool = True,
        fit: Fit | None = None,
    ) -> Cost:
        """A price with what every kernel pays: dispatch, and one trip to memory before work can start.

        What it rests on is ``fit`` where its class was fitted, else the device's generic fractions.
        """
        dispatch = self.device.dispatch
        serial: dict[str, Num] = {"dispatch": kernels * dispatch.graph}
        if latency:
            serial["latency"] = kernels * self.memory.latency
        parts = {**overlapped, **self.launches(kernels * dispatch.eager)}
        rests = self.efficiency if fit is None else fit
        return Cost(parts, serial, flops, moved, rests.basis, rests.interval)

    def launches(self, host: Num) -> dict[str, Num]:
        """The host's seconds to start an op's kernels, as a part that overlaps; nothing where a graph replays them.

        The host runs ahead of the device, so a launch only costs what the kernel does not hide.
        """
        return {} if self.graphs else {"launch": host}

    def memory_time(self, moved: Num, kind: str) -> Num:
        """Seconds to move bytes to or from the main memory."""
        return moved / (self.memory.bandwidth * self.efficiency.of("memory", kind))

    def slower_writes(self, tier: Tier, written: Num, table: str, kind: str) -> Num:
        """Seconds that writing ``written`` bytes to a tier takes longer than reading them would; exactly 0 for a tier
        that writes as fast as it reads."""
        more = tier.bandwidth / tier.write_bandwidth - 1.0
        return written * more / (tier.bandwidth * self.efficiency.of(table, kind))

    def cache_time(self, moved: Num, kind: str) -> Num:
        """Seconds to move bytes to or from the last cache; 0 when there is none."""
        cache = self.device.cache
        if cache is None or is_zero(cache.bandwidth):
            return 0.0 * moved
        return moved / (cache.bandwidth * self.efficiency.of("cache", kind))

    def vector_time(self, op: Op) -> Num:
        """Seconds of an op's arithmetic on the vector engine, where no tile goes to waste (how kernels for few
        rows work); inf on a device without one."""
        if not any(e.kind == "vector" for e in self.device.engines):
            return float("inf")
        rate, _ = self.rate(op.arithmetic, "vector")
        return op.flops / (rate * self.efficiency.of("compute", "vector"))

    @property
    def cache_capacity(self) -> Num:
        cache = self.device.cache
        return cache.capacity if cache is not None else 0.0

    @property
    def cache_name(self) -> str:
        cache = self.device.cache
        return cache.name if cache is not None else "cache"


def sparse(op: Op, engine: Engine) -> Num:
    """How many times as fast an engine skips zeros in the pattern it knows; 1 where the op has none."""
    structured = op.options.get("structured", False)
    return where(structured, engine.sparse, 1.0) if is_array(structured) else engine.sparse if structured else 1.0


def _best(device: Device, arithmetic: str, kind: str) -> tuple[Num, Engine]:
    """The highest rate for a dtype, and the engine that has it (of rates that are arrays, at the first element)."""
    for name in (arithmetic, *_INSTEAD.get(arithmetic, ())):
        found = [
            (e.rates[name], e)
            for e in device.engines
            if name in e.rates and (kind != "vector" or e.kind == "vector")
        ]
        if found:
            return maximum(*(r for r, _ in found)), max(found, key=_first)[1]
    # A device that computes in one narrow dtype only does everything in it.
    every = [(r, e) for e in device.engines for r in e.rates.values()]
    return min(every, key=_first)


def _first(found: tuple[Num, Engine]) -> float:
    return float(np.ravel(found[0])[0])
