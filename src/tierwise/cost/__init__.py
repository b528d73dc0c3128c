"""What one op costs on one device. ``cost/<kind>.py`` prices the ops of that kind.

A module ``cost/<kind>.py`` has ``price(op, on) -> Cost``, bounds from the datasheet, and, where kernels of its kind
were measured, ``calibrated(op, on) -> Cost | None`` from fitted coefficients. A new op class is one new file.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from types import ModuleType

import numpy as np

from tierwise.core.num import is_array
from tierwise.cost.calibrate import efficiency
from tierwise.cost.limits import reaching, within_peaks, writing
from tierwise.cost.nodes import at
from tierwise.cost.ondevice import price as own_kernels
from tierwise.cost.spatial import mapped
from tierwise.cost.types import Cost, Efficiency, Target, either
from tierwise.program.types import Op

# Ops that are no kernels: no engine's measurements and no framework's interpreter price them.
_NO_KERNELS = ("collective", "copy")


def price(op: Op, on: Target) -> Cost:
    """The cost of an op on a target: of the first provider that has one, in the order of trust (:data:`PROVIDERS`).

    What holds whoever prices comes on top: a framework's interpreter, operands of role ``host``, which are read over
    the link to the host, and tiers that write slower than they read.

    Raises:
        TierwiseError: an operand lies where no path leads.
    """
    if is_array(on.graphs):
        ways = (price(op, replace(on, graphs=True)), price(op, replace(on, graphs=False)))
        return either(np.asarray(on.graphs, dtype=bool), *ways)
    on = at(on, str(op.options.get("on", "")))
    own = _measured(op, on)
    if own is not None:
        return reaching(op, on, own)
    if on.framework is not None and op.kind not in _NO_KERNELS:
        from tierwise.cost.framework import price as under

        return reaching(op, on, under(op, on, on.framework, _plain))
    return reaching(op, on, _plain(op, on))


def _plain(op: Op, on: Target) -> Cost:
    """The first price of the providers after the machine's own measurements."""
    for _, provide in PROVIDERS[1:]:
        cost = provide(op, on)
        if cost is not None:
            # A copy's path already writes at the bandwidth of writing.
            return cost if op.kind in _NO_KERNELS else writing(op, on, cost)
    raise AssertionError("the last provider prices every op")


def _measured(op: Op, on: Target) -> Cost | None:
    """What the machine itself was measured to take (:mod:`tierwise.cost.measured`)."""
    profiles = on.device.measured
    if not profiles or op.kind in _NO_KERNELS:
        return None
    from tierwise.cost.measured import price as from_measurements

    return from_measurements(op, on, profiles.get(on.efficiency.engine) or next(iter(profiles.values())))


def _fitted(op: Op, on: Target) -> Cost | None:
    """Coefficients fitted to measurements of this device or its siblings, held to the datasheet's peaks."""
    calibrated = getattr(_module(op.kind), "calibrated", None)
    cost: Cost | None = calibrated(op, on) if calibrated is not None else None
    return None if cost is None else within_peaks(op, on, cost)


def _bounds(op: Op, on: Target) -> Cost | None:
    """Bounds from the datasheet and generic fractions of it."""
    cost: Cost = _module(op.kind).price(op, on)
    return cost


@cache
def _module(kind: str) -> ModuleType:
    return importlib.import_module(f"tierwise.cost.{kind}")


PROVIDERS: tuple[tuple[str, Callable[[Op, Target], Cost | None]], ...] = (
    ("measured", _measured),
    ("kit", own_kernels),
    ("fitted", _fitted),
    ("mapping", mapped),
    ("bounds", _bounds),
)
"""Who prices an op, the most trusted first; one that has no price for it answers None."""

__all__ = ["PROVIDERS", "Cost", "Efficiency", "Target", "efficiency", "price"]
