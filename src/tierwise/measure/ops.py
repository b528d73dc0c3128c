"""Predictions beside recorded measurements of single operations: how far off, how often inside the interval."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tierwise.core.errors import BadField, UnknownName
from tierwise.cost import Efficiency, Target, efficiency
from tierwise.cost.messages import with_limits
from tierwise.machines import system
from tierwise.machines.types import Device
from tierwise.measure import rows as kinds
from tierwise.measure.columns import MEASURED, Table, numbers, read


@dataclass(frozen=True)
class Predictions:
    """A table's measured and predicted seconds, with the interval that should hold 80 % of measurements.

    ``basis`` per row; rows of a device the catalog lacks, or a format it does not know, are ``nan`` and unanswered.
    """

    measured: NDArray[np.float64]
    predicted: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    basis: NDArray[np.str_]

    @property
    def error(self) -> NDArray[np.float64]:
        """Relative error of each row, unsigned."""
        return np.abs(self.predicted / self.measured - 1.0)


@dataclass(frozen=True)
class Accuracy:
    """How good the predictions of some rows are: errors relative and unsigned, ``bias`` the median of predicted over
    measured, ``coverage`` the share of measurements inside the interval."""

    rows: int
    answered: int
    median: float
    mean: float
    p90: float
    bias: float
    coverage: float


def summary(table: Table, p: Predictions, kind: ModuleType) -> list[tuple[str, tuple[str, ...], Accuracy]]:
    """(op, what of it, accuracy): all rows; by system; by format; by engine; by system, engine and format."""
    op = kind.__name__.rsplit(".", 1)[1]
    out: list[tuple[str, tuple[str, ...], Accuracy]] = [(op, ("all",), accuracy(p))]
    for columns in (("system",), (kind.DTYPE,), ("engine",), ("system", "engine", kind.DTYPE)):
        out += [(op, names, accuracy(p, rows)) for names, rows in groups(table, columns).items()]
    return out


def kind_of(table: Mapping[str, NDArray[Any]], where: str = "table") -> ModuleType:
    """The module under ``measure/rows`` that understands a file's columns.

    Raises:
        BadField: no module does.
    """
    modules = [importlib.import_module(f"{kinds.__name__}.{i.name}") for i in pkgutil.iter_modules(kinds.__path__)]
    able = [m for m in modules if m.COLUMNS | {"system", "latency"} <= set(table)]
    if not able:
        wanted = "; ".join(f"{m.__name__.rsplit('.', 1)[1]}: {', '.join(sorted(m.COLUMNS))}" for m in modules)
        raise BadField(where, "columns", ", ".join(table), f"system, latency and those of one kind ({wanted})")
    return max(able, key=lambda m: len(m.COLUMNS))


def checked(table: Table, kind: ModuleType, where: str) -> Table:
    """The table with the numbers of its kind as numbers: sizes of at least one, times of at least nothing.

    Raises:
        BadField: a cell that is none of these.
    """
    return numbers(table, where, {**kind.BOUNDS, "latency": MEASURED}, lacking=("latency", "window_size"))


def groups(table: Mapping[str, NDArray[Any]], columns: Sequence[str]) -> dict[tuple[str, ...], NDArray[np.intp]]:
    """Row numbers by the values of some columns (those the table has; ``""`` for the others)."""
    count = len(next(iter(table.values())))
    parts = [np.asarray(table[c], dtype=str) if c in table else np.full(count, "") for c in columns]
    keys = np.stack(parts, axis=1)
    distinct, index = np.unique(keys, axis=0, return_inverse=True)
    order = np.argsort(index.reshape(-1), kind="stable")
    cuts = np.searchsorted(index.reshape(-1)[order], np.arange(len(distinct) + 1))
    return {tuple(map(str, k)): order[a:b] for k, a, b in zip(distinct, cuts[:-1], cuts[1:], strict=True)}


def predict(
    table: Table,
    kind: ModuleType,
    calibration: Mapping[str, Efficiency] | None = None,
    without: Callable[[Device, str], frozenset[str]] | None = None,
) -> Predictions:
    """What the engine says about every row.

    Args:
        table: columns; ``latency`` in milliseconds, as recorded.
        kind: the module that prices them.
        calibration: by system, to use instead of the one on file.
        without: of a device and an engine (``vllm@0.24.0``): what of the calibration on file does not count, as
            :func:`tierwise.cost.efficiency` takes it.
    """
    measured = np.asarray(table["latency"], dtype=float) * 1e-3
    out = [np.full(len(measured), np.nan) for _ in range(3)]
    basis = np.full(len(measured), "", dtype="<U12")
    columns = ("system", "engine", "version", "kernel_source", kind.DTYPE)
    for (name, engine, version, kernel, _), rows in groups(table, columns).items():
        try:
            machine = system(name)
        except UnknownName:
            continue
        given = (calibration or {}).get(name)
        who = f"{engine}@{version}" if version else engine
        less = without(machine.device, who) if without is not None else frozenset()
        found = efficiency(machine.device, f"{who}:{kernel}", less) if given is None else given
        if given is not None:  # which kernel takes which message is known of the engine, whatever was measured
            device = machine.device
            known = with_limits(given.fits, engine, version, device.family, device.name)
            found = replace(given, fits={**given.fits, **known})
        found = replace(found, engine=f"{engine}:{kernel}")
        part = {c: v[rows] for c, v in table.items()}
        try:
            cost = kind.cost(part, Target(machine, found))
        except UnknownName:
            continue
        time = np.broadcast_to(cost.time, rows.shape)
        for column, factor in zip(out, (1.0, *cost.interval), strict=True):
            column[rows] = time * factor
        basis[rows] = cost.basis
    predicted, low, high = out
    return Predictions(measured, predicted, low, high, basis)


def accuracy(p: Predictions, rows: NDArray[np.intp] | slice = slice(None)) -> Accuracy:
    """Errors of some rows (all by default)."""
    measured, predicted = p.measured[rows], p.predicted[rows]
    known = np.isfinite(predicted)
    if not np.any(known):
        return Accuracy(len(measured), 0, *[float("nan")] * 5)
    error = p.error[rows][known]
    inside = (measured >= p.low[rows]) & (measured <= p.high[rows])
    return Accuracy(
        len(measured),
        int(known.sum()),
        float(np.median(error)),
        float(error.mean()),
        float(np.quantile(error, 0.9)),
        float(np.median((predicted / measured)[known])),
        float(inside[known].mean()),
    )


__all__ = ["Accuracy", "Predictions", "Table", "accuracy", "checked", "groups", "kind_of", "predict", "read", "summary"]
