"""Fit collectives: ``python -m benchmarks.fit.collective`` rewrites ``collective`` and ``custom_allreduce`` of
``calibration/*``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from benchmarks.fit import classes
from benchmarks.fit.classes import Free, Spec, extend, run
from benchmarks.fit.common import Array

from tierwise.cost import Efficiency, Target, price
from tierwise.cost.collective import fabric
from tierwise.cost.types import Fit
from tierwise.machines import system
from tierwise.measure.ops import Table
from tierwise.measure.rows import collective, custom_allreduce
from tierwise.program.types import Op

NCCL = {
    "start": Free(5e-6, 5e-7, 1e-4),
    "step": Free(1e-6, 1e-8, 2e-5),
    "low": Free(0.15, 0.005, 1.0),
    "middle_extra": Free(2e-6, 1e-8, 1e-4),
    "middle_step": Free(1e-6, 1e-8, 2e-5),
    "middle": Free(0.4, 0.01, 1.0),
    "bulk_extra": Free(5e-6, 1e-8, 2e-4),
    "bulk_step": Free(1.5e-6, 1e-8, 3e-5),
    "bulk": Free(0.8, 0.01, 1.0),
    "spread": Free(0.0, -1.0, 4.0, power=True),
    "local": Free(0.3, 0.01, 8.0),
    "narrow": Free(0.03, 0.001, 0.3),
}
CUSTOM = {n: f for n, f in NCCL.items() if n != "narrow"} | {
    "start": Free(4e-6, 5e-7, 2e-4),
    "low": Free(0.5, 0.01, 1.0),
    "middle": Free(0.5, 0.01, 1.0),
    "bulk_extra": Free(2e-5, 1e-8, 5e-4),
}


def _prepared(op: Op, target: Target, engine: str) -> tuple[Op, Target]:
    on = collective.node(target)
    return op, replace(on, efficiency=replace(on.efficiency, engine=engine))


def _seconds(ready: object, values: Mapping[str, float]) -> Array:
    op, target = ready  # type: ignore[misc]
    name = "custom_allreduce" if target.efficiency.engine else "collective"
    fit = Fit(name, "*", "*", values, "calibrated", (1.0, 1.0), "")
    eff = replace(target.efficiency, fits={(name, "*", "*"): fit})
    return np.asarray(price(op, replace(target, efficiency=eff)).time)


def _over(table: Table) -> list[str]:
    """What connects the devices of each row's system."""
    over = {s: fabric(system(f"8x{system(s).device.name}")) for s in np.unique(table["system"].astype(str))}
    return [over[str(s)] for s in table["system"]]


def _named(table: Table) -> np.ndarray:
    return np.asarray([collective.NAMES[str(o)] + f for o, f in zip(table["op_name"], _over(table), strict=True)])


LIBRARY = Spec(
    "collective", "collective.parquet", _named,
    lambda t, on: _prepared(collective.op(t), on, ""), _seconds, NCCL, ({},), ("num_gpus", "message_size"),
    even=True,
)  # fmt: skip


def _launched(table: Table) -> np.ndarray:
    how = ["eager" if "eager" in str(k).lower() else "graph" for k in table["kernel_source"]]
    return np.asarray([h + f for h, f in zip(how, _over(table), strict=True)])


ENGINES = Spec(
    "custom_allreduce", "custom_allreduce.parquet", _launched,
    lambda t, on: _prepared(custom_allreduce.op(t), on, "*"), _seconds, CUSTOM, ({},), ("num_gpus", "message_size"),
    even=True,
)  # fmt: skip


def leave_out(name: str) -> Efficiency:
    """The calibration of a device from measurements of the others only."""
    return classes.leave_out([LIBRARY, ENGINES], name)


if __name__ == "__main__":
    for spec in (LIBRARY, ENGINES):
        asked = [a for a in sys.argv[1:] if a != "pool"]
        if asked:
            extend(spec, asked)
        else:
            run(spec, "pool" in sys.argv)
