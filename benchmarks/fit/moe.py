"""Fit routed experts: ``python -m benchmarks.fit.moe`` rewrites ``calibration/*/moe.yaml``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from benchmarks.fit import classes
from benchmarks.fit.classes import extend, run
from benchmarks.fit.common import Array
from benchmarks.fit.spec import Free, Spec

from tierwise.cost import Efficiency, Target, price
from tierwise.cost.moe import formats
from tierwise.cost.types import Fit
from tierwise.measure.ops import Table
from tierwise.measure.rows import moe
from tierwise.program.types import Op

FREE = {
    "launch": Free(2e-5, 1e-6, 2e-4),
    "compute": Free(0.6, 0.05, 1.0),
    "small": Free(0.5, 0.05, 1.0),
    "wave": Free(0.5, 0.005, 2.0),
    "memory": Free(0.8, 0.1, 1.0),
    "cache": Free(0.6, 0.05, 1.5),
    "warm": Free(0.5, 0.05, 1.5),
    "step": Free(3e-7, 1e-8, 5e-6),
    "step_power": Free(0.1, -1.0, 1.5, power=True),
    "both": Free(0.3, 0.01, 1.0),
    "elsewhere": Free(0.01, 1e-5, 1.0),
    "move_rows": Free(1.0, 0.01, 8.0),
    "move_routed": Free(0.3, 0.005, 8.0),
    "move_tokens": Free(1.0, 0.01, 20.0),
    "per_expert": Free(5e-9, 1e-11, 2e-6),
    "per_slot": Free(5e-11, 1e-13, 2e-8),
    "per_touched": Free(5e-9, 1e-11, 5e-6),
}
CHOICES = (
    {"tile": 64.0, "by_tokens": 0.0},
    {"tile": 128.0, "by_tokens": 0.0},
    {"tile": 64.0, "by_tokens": 1.0},
    {"tile": 64.0, "by_tokens": 2.0},
    {"tile": 64.0, "by_tokens": 3.0},
)
CYCLES = ("launch", "step", "per_expert", "per_slot", "per_touched")
SHAPE = ("num_tokens", "hidden_size", "inter_size", "topk", "num_experts", "moe_tp_size", "moe_ep_size")
# Class of number formats by the names recorded files use.
CLASSES = {name: str(formats(moe.op({**dict.fromkeys(moe.COLUMNS, np.ones(1)), "moe_dtype": np.asarray([name]),
                                     "distribution": np.asarray(["balanced"])}))) for name in moe.FORMATS}  # fmt: skip


def prepare(table: Table, target: Target) -> tuple[Op, Target]:
    return moe.op(table), replace(target, weight_copies=1.0)


def seconds(ready: object, values: Mapping[str, float]) -> Array:
    op, target = ready  # type: ignore[misc]
    fit = Fit("moe", "*", "*", values, "calibrated", (1.0, 1.0), "")
    eff = replace(target.efficiency, fits={("moe", "*", "*"): fit})
    return np.asarray(price(op, replace(target, efficiency=eff)).time)


SPEC = Spec("moe", "moe.parquet", lambda t: np.asarray([CLASSES[str(d)] for d in t["moe_dtype"]]), prepare, seconds,
            FREE, CHOICES, SHAPE, near={"cycles": CYCLES})  # fmt: skip


def leave_out(name: str) -> Efficiency:
    """The calibration of a device from measurements of the others only."""
    return classes.leave_out([SPEC], name)


if __name__ == "__main__":
    if sys.argv[1:]:
        extend(SPEC, sys.argv[1:])
    else:
        run(SPEC)
