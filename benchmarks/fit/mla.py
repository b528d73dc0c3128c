"""Fit latent attention: ``python -m benchmarks.fit.mla`` rewrites ``calibration/*/mla_{prefill,decode}.yaml``."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import numpy as np
from benchmarks.fit import classes
from benchmarks.fit.attention import DECODE, PREFILL
from benchmarks.fit.classes import extend, run
from benchmarks.fit.common import Array
from benchmarks.fit.spec import Free, Spec

from tierwise.cost import Efficiency, Target
from tierwise.measure.ops import Table
from tierwise.measure.rows import mla

PRODUCTS = {
    "gemm_compute": Free(0.6, 0.1, 1.0),
    "gemm_memory": Free(0.8, 0.2, 1.0),
    "gemm_move": Free(0.5, 0.02, 4.0),
    "between": Free(1.0, 0.02, 12.0),
}
CORE = {"prefill": ("compute", "softmax", "start", "tail"),
        "decode": ("memory", "cache", "warm", "unit", "start", "merge", "compute", "dequant", "wave")}  # fmt: skip
CHOICES = {
    "prefill": [{"rows": r, "packed": 0.0, "halved": 0.0, "cut": 0.0, "tuned": 1.0,
                 "memory": 0.85, "cache": 0.6, "warm": 0.5, "width_power": 0.0, "start_power": 0.0, "alone": 1.0,
                 "unskipped": 0.0, "move": 0.0} for r in (64.0, 128.0)],
    "decode": [{"rows": r, "mode": 0.0, "chunk": 64.0, "occupancy": 1.0, "start_power": 0.0, "merge_bytes": 0.0,
                "softmax": 0.0, "unskipped": 0.0, "move": 0.0, "single": 1.0,
                "single_start": 1.0, "regroup": 0.0} for r in (16.0, 64.0, 128.0)],
}  # fmt: skip
NEAR = {
    "prefill": {"cycles": ("launch", "start"), "rates": ("compute", "gemm_compute"), "counts": ("softmax",)},
    "decode": {"cycles": ("launch", "start", "merge"), "rates": ("compute", "gemm_compute")},
}
SHAPE = ("batch_size", "isl", "step", "num_heads")


def spec(phase: str) -> Spec:
    plain = PREFILL if phase == "prefill" else DECODE
    free = {n: plain[n] for n in CORE[phase]} | PRODUCTS | {"launch": Free(3e-5, 1e-6, 3e-4)}
    if phase == "prefill":
        free["absorbed"] = Free(1.0, 0.1, 10.0)

    def seconds(ready: object, values: Mapping[str, float]) -> Array:
        table, target = ready  # type: ignore[misc]
        return np.asarray(mla.module(table, target, values, phase == "decode"))

    def prepare(table: Table, target: Target) -> tuple[Table, Target]:
        return table, target

    return Spec(f"mla_{phase}", f"mla_{phase}.parquet", mla.classes, prepare, seconds, free, CHOICES[phase], SHAPE,
                kernels=False, near=NEAR[phase])  # fmt: skip


def leave_out(name: str) -> Efficiency:
    """The calibration of a device from measurements of the others only."""
    return classes.leave_out([spec("prefill"), spec("decode")], name)


def main() -> None:
    """Of systems given as arguments; of all, and their pool, otherwise."""
    for phase in ("prefill", "decode"):
        if sys.argv[1:]:
            extend(spec(phase), sys.argv[1:])
        else:
            run(spec(phase))


if __name__ == "__main__":
    main()
