"""What is fitted of an op class, and to which rows: a spec, its rows by device, engine, kernel and class, and what of
its coefficients carries to another device."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from benchmarks.fit.common import SHARED, Array, sample
from numpy.typing import NDArray

from tierwise.cost import Target, efficiency
from tierwise.cost.calibrate import carry, siblings, unit_rate
from tierwise.machines import system
from tierwise.machines.types import Device
from tierwise.measure.ops import Table, groups, read

# Rows of a sample that coefficients are fitted to.
MOST = 900


@dataclass(frozen=True)
class Free:
    """A coefficient: its prior, how far it may go, and whether it may be negative (a power)."""

    start: float
    low: float
    high: float
    power: bool = False


@dataclass(frozen=True)
class Spec:
    """What to fit.

    Attributes:
        op: op class: the name of the calibration file.
        file: table under ``shared/data/ops``.
        dtype: class of number formats of each row of a table.
        seconds: predicted seconds of prepared rows from coefficients.
        prepare: rows of one class to what ``seconds`` takes.
        free: coefficients fitted; ``choices``: structures tried (values of further coefficients).
        shape: columns that make a shape: rows equal in them are held out together.
        keep: rows used, if not all.
        kernels: fit each kernel of an engine apart.
        general: structures tried for several devices together (default: ``choices``).
        cycles, draws: coefficients that carry to another device with its clock, see ``tierwise.cost.calibrate``.
        at: clock, unit share and peak they are given at; empty: those of the one device that is fitted.
        near: what carries instead within a family, where two of its devices were measured and show that it does.
        even: systems count the same in a pool, however many rows there are of each.
        donors: classes of other devices to start from instead of trying every structure, see :func:`near`.
        of: the spec as it is for one class's rows, where classes have coefficients of their own.
        also: parts of machines that count in a pool alone.
    """

    op: str
    file: str
    dtype: Callable[[Table], NDArray[np.str_]]
    prepare: Callable[[Table, Target], object]
    seconds: Callable[[object, Mapping[str, float]], Array]
    free: Mapping[str, Free]
    choices: Sequence[Mapping[str, float]]
    shape: Sequence[str]
    keep: Callable[[Table], NDArray[np.bool_]] | None = None
    kernels: bool = True
    general: Sequence[Mapping[str, float]] = ()
    cycles: Sequence[str] = ()
    draws: Sequence[str] = ()
    at: Mapping[str, float] = field(default_factory=dict)
    near: Mapping[str, Sequence[str]] = field(default_factory=dict)
    even: bool = False
    donors: Sequence[tuple[str, Mapping[str, float]]] = ()
    of: Callable[[Spec, Sequence[Part]], Spec] = lambda spec, parts: spec
    also: Callable[[], list[Part]] = list


@dataclass(frozen=True)
class Part:
    """Rows of one device and class, ready to be priced."""

    system: str
    engine: str
    kernel: str
    dtype: str
    table: Table
    target: Target

    @property
    def measured(self) -> Array:
        return np.asarray(self.table["latency"], dtype=float) * 1e-3

    def some(self, rows: NDArray[np.intp]) -> Part:
        return replace(self, table={c: v[rows] for c, v in self.table.items()})


def parts_of(spec: Spec) -> list[Part]:
    """The rows of the spec's table, by device, engine, kernel and class."""
    table = read(SHARED / "data/ops" / spec.file)
    if spec.keep is not None:
        kept = np.flatnonzero(spec.keep(table))
        table = {c: v[kept] for c, v in table.items()}
    table["class"] = spec.dtype(table)
    out = []
    for (name, engine, kernel, kind), rows in groups(table, ("system", "engine", "kernel_source", "class")).items():
        machine = system(name)
        target = Target(machine, replace(efficiency(machine.device), fits={}))
        out.append(Part(name, engine, kernel, kind, {c: v[rows] for c, v in table.items()}, target))
    return out


def predictor(spec: Spec, parts: Sequence[Part]) -> Callable[[Mapping[str, float]], Array]:
    ready = [(spec.prepare(p.table, p.target), carried(spec, p.target.device)) for p in parts]

    def seconds(values: Mapping[str, float]) -> Array:
        return np.concatenate(
            [spec.seconds(r, {n: v * by.get(n, 1.0) for n, v in values.items()}) for r, by in ready]
        )

    return seconds


def reference(device: Device) -> dict[str, float]:
    """What coefficients are fitted at, as the file says it."""
    return {"clock": device.clock, "unit_share": device.unit_share, "unit_rate": float(unit_rate(device))}


def carried(spec: Spec, device: Device) -> dict[str, float]:
    """Factors on the spec's coefficients for a device."""
    return carry(stated(spec, spec.at or reference(device)), device.clock, device.unit_share, unit_rate(device))


def stated(spec: Spec, at: Mapping[str, float]) -> dict[str, object]:
    """How coefficients carry to another device, as the file says it; nothing where none do."""
    lists = {n: list(v) for n, v in {"cycles": spec.cycles, "draws": spec.draws}.items() if v}
    return {"at": dict(at), **lists} if lists else {}


def family(spec: Spec, device: Device) -> dict[str, object]:
    """The same, as the file of a family says it."""
    if not siblings(device, spec.op, frozenset({device.name})):
        return stated(spec, reference(device))
    return {"at": reference(device), **{n: list(v) for n, v in spec.near.items()}} if spec.near else {}


def thin(parts: Sequence[Part], most: int = MOST, even: bool = False) -> list[Part]:
    """A sample, each part in proportion to its share; ``even``: of its system's rows, all systems counting the same."""
    systems = {p.system for p in parts} if even else {""}
    size = {s: sum(p.measured.size for p in parts if s in ("", p.system)) for s in systems}
    least = min(size.values())
    out = []
    for p in parts:
        count = size[p.system] if even else size[""]
        rows = min(most / len(systems), least if even else np.inf) * p.measured.size / count
        out.append(p.some(sample(np.arange(p.measured.size), max(int(rows), 1))))
    return out
