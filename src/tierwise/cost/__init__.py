"""What one op costs on one device. ``cost/<kind>.py`` prices the ops of that kind."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Protocol

from tierwise.cost.calibrate import efficiency
from tierwise.cost.types import Cost, Efficiency, Target
from tierwise.program.types import Op


class _Module(Protocol):
    def price(self, op: Op, on: Target) -> Cost: ...


@cache
def _module(kind: str) -> _Module:
    return importlib.import_module(f"tierwise.cost.{kind}")


def price(op: Op, on: Target) -> Cost:
    """The cost of an op on a target.

    The module ``cost/<op.kind>.py`` does the pricing, so a new op class is one new file. A machine that was
    itself measured brings prices of its own (:mod:`tierwise.cost.measured`).
    """
    measured = on.device.measured
    if measured and op.kind != "collective":
        from tierwise.cost.measured import price as from_measurements

        return from_measurements(op, on, measured.get(on.efficiency.engine) or next(iter(measured.values())))
    if on.framework is not None and op.kind != "collective":
        from tierwise.cost.framework import price as under

        return under(op, on, on.framework, _plain)
    return _plain(op, on)


def _plain(op: Op, on: Target) -> Cost:
    return _module(op.kind).price(op, on)


__all__ = ["Cost", "Efficiency", "Target", "efficiency", "price"]
