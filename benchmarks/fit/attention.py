"""Fit attention: ``python -m benchmarks.fit.attention`` rewrites ``calibration/*/attention_{prefill,decode}.yaml``."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product

import numpy as np
from benchmarks.fit import classes
from benchmarks.fit.classes import extend, run
from benchmarks.fit.common import Array
from benchmarks.fit.spec import Free, Part, Spec

from tierwise.cost import Efficiency, Target, price
from tierwise.cost.attention import formats
from tierwise.cost.types import Fit
from tierwise.measure.ops import Table
from tierwise.measure.recordings import recorded
from tierwise.measure.rows import attention
from tierwise.program.types import Op

PREFILL = {
    "launch": Free(8e-6, 5e-7, 1e-4),
    "compute": Free(0.7, 0.05, 1.0),
    "width_power": Free(0.0, -1.5, 1.5, power=True),
    "tuned": Free(1.0, 0.3, 3.0),
    "softmax": Free(8.0, 0.5, 100.0),
    "memory": Free(0.85, 0.2, 1.0),
    "cache": Free(0.6, 0.1, 1.5),
    "warm": Free(0.5, 0.05, 1.5),
    "start": Free(1e-6, 1e-9, 5e-5),
    "start_power": Free(0.0, -1.5, 1.5, power=True),
    "alone": Free(0.9, 0.3, 2.5),
    "tail": Free(0.3, 0.01, 2.0),
    "unskipped": Free(0.05, 1e-4, 1.0),
    "move": Free(1.0, 0.01, 5.0),
}
WRITE = Free(100.0, 5.0, 3000.0)
DECODE = {
    "launch": Free(6e-6, 5e-7, 1e-4),
    "memory": Free(0.85, 0.1, 1.0),
    "cache": Free(0.6, 0.05, 1.5),
    "warm": Free(0.5, 0.05, 1.5),
    "unit": Free(2.0, 0.3, 20.0),
    "occupancy": Free(2.0, 0.2, 16.0),
    "start": Free(4e-6, 1e-7, 3e-5),
    "start_power": Free(0.0, -1.5, 1.5, power=True),
    "merge": Free(2e-6, 1e-8, 3e-5),
    "merge_bytes": Free(1.0, 0.05, 20.0),
    "compute": Free(0.4, 0.02, 1.0),
    "softmax": Free(8.0, 0.5, 100.0),
    "dequant": Free(0.05, 0.001, 3.0),
    "wave": Free(0.3, 0.003, 2.0),
    "unskipped": Free(0.02, 1e-4, 1.0),
    "move": Free(1.0, 0.05, 60.0),
    "single": Free(1.0, 0.05, 20.0),
    "single_start": Free(0.4, 0.1, 10.0),
    "regroup": Free(3e-6, 1e-9, 2e-5),
}
TILES = (dict(zip(("rows", "packed", "halved", "cut"), c, strict=True)) for c in product(
    (64.0, 128.0, 256.0), (0.0, 1.0, 2.0), (0.0, 1.0), (0.0, 1.0)))  # fmt: skip
SPLITS = ({"rows": r, "mode": m, "chunk": c} for r, m, c in product((16.0, 64.0), (0.0, 1.0, 2.0, 3.0, 4.0),
                                                                    (64.0, 256.0, 1e9)))  # fmt: skip
# Of kernels in general: nobody else's habits.
PLAIN = {
    "prefill": [{"rows": r, "packed": p, "halved": 0.0, "cut": 0.0} for r, p in product((64.0, 128.0), (0.0, 1.0))],
    "decode": [{"rows": 16.0, "mode": 0.0, "chunk": c} for c in (64.0, 256.0)],
}
NEAR = {
    "prefill": {"cycles": ("launch", "start"), "rates": ("compute",), "counts": ("softmax", "write")},
    "decode": {"cycles": ("launch", "start", "merge", "regroup"), "draws": ("unit",), "rates": ("compute",),
               "counts": ("softmax",)},
}  # fmt: skip
SHAPE = ("batch_size", "isl", "step", "num_heads", "num_key_value_heads", "head_dim", "window_size")


def prepare(table: Table, target: Target) -> tuple[Op, Target]:
    phase = "decode" if attention.decoding(table)[0] else "prefill"
    return attention.op(table, phase), replace(target, weight_copies=1.0)


def seconds(ready: object, values: Mapping[str, float]) -> Array:
    op, target = ready  # type: ignore[misc]
    name = f"attention_{op.options['phase']}"
    fit = Fit(name, "*", "*", values, "calibrated", (1.0, 1.0), "")
    eff = replace(target.efficiency, fits={(name, "*", "*"): fit})
    return np.asarray(price(op, replace(target, efficiency=eff)).time)


def kinds(phase: str) -> Spec:
    def dtype(table: Table) -> np.ndarray:
        return np.broadcast_to(np.asarray(formats(attention.op(table, phase))), table["isl"].shape)

    def keep(table: Table) -> np.ndarray:
        table["window_size"] = np.nan_to_num(table["window_size"].astype(float))
        return np.asarray(attention.decoding(table) == (phase == "decode"))

    free, choices = (PREFILL, tuple(TILES)) if phase == "prefill" else (DECODE, tuple(SPLITS))
    # Left-out devices come out nearer with these: decode 51, 36, 83 and 90 % become 22, 20, 29 and 49 %. Prefill, bound
    # by arithmetic, gains nothing from it.
    cycles, draws = (("launch", "start", "merge", "regroup"), ("unit",)) if phase == "decode" else ((), ())
    return Spec(f"attention_{phase}", f"attention_{phase}.parquet", dtype, prepare, seconds, free, choices, SHAPE, keep,
                general=PLAIN[phase], cycles=cycles, draws=draws, near=NEAR[phase], of=written)  # fmt: skip


def written(spec: Spec, parts: Sequence[Part]) -> Spec:
    """vLLM and SGLang write the cache with kernels of their own (reshape_and_cache; RadixAttention's set_kv_buffer),
    whose work a class of prefill has where its rows were timed with it."""
    if not {p.engine for p in parts} <= {"vllm", "sglang"}:
        return spec
    if all(recorded(p.table, "attention", "unwritten").all() for p in parts):
        donors = [(kind, {**k, "write": 0.0}) for kind, k in spec.donors]
        return replace(spec, choices=[{**c, "write": 0.0} for c in spec.choices], donors=donors)
    return replace(spec, free={**spec.free, "write": WRITE}) if spec.op.endswith("prefill") else spec


def leave_out(name: str) -> Efficiency:
    """The calibration of a device from measurements of the others only."""
    return classes.leave_out([kinds("prefill"), kinds("decode")], name)


def main() -> None:
    """Phases given as arguments, of systems given as arguments; all phases, all systems and their pool otherwise."""
    asked = [a for a in sys.argv[1:] if a != "pool"]
    systems = [a for a in asked if a not in ("prefill", "decode")]
    for phase in [a for a in asked if a not in systems] or ("prefill", "decode"):
        if systems:
            extend(kinds(phase), systems)
        else:
            run(kinds(phase), "pool" in sys.argv)


if __name__ == "__main__":
    main()
