"""Fit collectives: ``python -m benchmarks.fit.collective`` rewrites ``collective`` and ``custom_allreduce`` of
``calibration/*``."""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml
from benchmarks.fit import classes
from benchmarks.fit.classes import extend, run
from benchmarks.fit.common import CALIBRATION, Array, write
from benchmarks.fit.spec import Free, Part, Spec

from tierwise.cost import Efficiency, Target, efficiency, price
from tierwise.cost.collective import fabric
from tierwise.cost.messages import GROUPS, OF_WAY, WAYS, limits
from tierwise.cost.types import Fit
from tierwise.machines import system
from tierwise.measure.ops import Table, groups
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
# Rows that a published bandwidth counts as, so that its machine counts like a recorded one.
SAME = 30
# Through the host, by the fastest of three protocols as a library.
HOST = {n: f for n, f in NCCL.items() if n != "narrow"} | {
    "start": Free(4e-6, 5e-7, 2e-4),
    "low": Free(0.5, 0.01, 1.0),
    "middle": Free(0.5, 0.01, 1.0),
    "bulk_extra": Free(2e-5, 1e-8, 5e-4),
}
# Among peers, by the engine's own kernels up to its own limits; what is larger is the library's, no row of this fit.
PEERS = {
    "start": Free(5e-6, 5e-7, 2e-4),
    "step": Free(2e-7, 1e-9, 2e-5),
    "low": Free(0.6, 0.05, 1.0),
    "each": Free(0.5, 0.05, 5.0),
    "middle_extra": Free(3e-6, 1e-8, 1e-4),
    "middle_step": Free(1e-6, 1e-9, 2e-5),
    "middle": Free(0.6, 0.05, 1.0),
    "cast_extra": Free(8e-6, 1e-8, 1e-4),
    "cast": Free(0.6, 0.05, 1.0),
}
# Launched one by one: what the host takes, and kernels that copy into buffers the peers know.
EAGER = {**PEERS, "start": Free(1e-5, 5e-7, 5e-5), "host": Free(2e-5, 1e-6, 1e-3)}


def _prepared(op: Op, target: Target, engine: str) -> tuple[Op, Target]:
    on = collective.node(target)
    return op, replace(on, efficiency=replace(on.efficiency, engine=engine))


def _seconds(ready: object, values: Mapping[str, float]) -> Array:
    op, target = ready  # type: ignore[misc]
    return np.asarray(price(op, _with(target, Fit("collective", "*", "*", values, "calibrated", (1.0, 1.0), ""))).time)


def _with(target: Target, fit: Fit) -> Target:
    eff = target.efficiency
    return replace(target, efficiency=replace(eff, fits={**eff.fits, (fit.op, "*", "*"): fit}))


def _own(table: Table, target: Target) -> tuple[Table, Target, Mapping[str, float]]:
    """Rows of an engine's own all-reduce, with the library's classes and the engine's limits beside them."""
    on = collective.node(target)
    lib = {k: f for k, f in efficiency(on.device).fits.items() if k[0] == "collective"}
    on = replace(on, efficiency=replace(on.efficiency, engine="*", fits=lib))
    return table, on, {} if fabric(on.system) else _limits(table, 0)


def _own_seconds(ready: object, values: Mapping[str, float]) -> Array:
    table, on, most = ready  # type: ignore[misc]
    usual = {} if fabric(on.system) else {n: PEERS[n].start for names in OF_WAY.values() for n in names}
    fit = Fit("custom_allreduce", "*", "*", {**usual, **values, **most}, "calibrated", (1.0, 1.0), "")
    return np.asarray(custom_allreduce.cost(table, _with(on, fit)).time)


def _limits(table: Table, row: int) -> Mapping[str, float]:
    device = system(str(table["system"][row])).device
    return limits(str(table["engine"][row]), str(table["version"][row]), device.family, device.name)


def _smaller(table: Table) -> np.ndarray:
    """Rows that the engines' own kernels took."""
    keep = np.ones(len(table["system"]), dtype=bool)
    for _, rows in groups(table, ("system", "engine", "version")).items():
        most = _limits(table, rows[0])
        if most and not fabric(system(f"8x{system(str(table['system'][rows[0]])).device.name}")):
            dims = custom_allreduce.op({c: v[rows] for c, v in table.items()}).dims
            top = {n: max(most[f"{way}_{n}"] for way in WAYS) for n in GROUPS}
            keep[rows] = dims["bytes"] <= np.asarray([top.get(int(n), 0.0) for n in dims["group"]])
    return keep


def _of(spec: Spec, parts: Sequence[Part]) -> Spec:
    """The coefficients of a class: by what connects its devices, by who launches it, and of the ways its rows went."""
    kind = parts[0].dtype
    if kind.endswith("-host"):
        return replace(spec, free=HOST)
    gone = {way for p in parts for way in _ways(p.table)}
    less = {name for way, names in OF_WAY.items() if way not in gone for name in names}
    return replace(spec, free={n: f for n, f in (EAGER if kind == "eager" else PEERS).items() if n not in less})


def _ways(table: Table) -> set[str]:
    """Which ways any of the rows went."""
    dims, found = custom_allreduce.op(table).dims, set()
    for i, (size, n) in enumerate(zip(dims["bytes"], dims["group"], strict=True)):
        most = _limits(table, i)
        found.add(next((w for w in WAYS if size <= most.get(f"{w}_{int(n)}", 0.0)), "") if most else "twice")
    return found


def _over(table: Table) -> list[str]:
    """What connects the devices of each row's system."""
    over = {s: fabric(system(f"8x{system(s).device.name}")) for s in np.unique(table["system"].astype(str))}
    return [over[str(s)] for s in table["system"]]


def _named(table: Table) -> np.ndarray:
    return np.asarray([collective.NAMES[str(o)] + f for o, f in zip(table["op_name"], _over(table), strict=True)])


def _published() -> list[Part]:
    """Machines whose owners published bus bandwidths, each with as many rows as a recorded one has about. A ring's
    all-reduce is a reduce-scatter and an all-gather of the same bandwidth."""
    lines = [x for x in (Path(__file__).with_name("host_published.csv")).read_text().splitlines() if x[0] != "#"]
    out = []
    for machine, device, n, size, rate, _ in csv.reader(lines):
        target = Target(system(device), replace(efficiency(system(device).device), fits={}))
        for op, passes in (("all_reduce", 2.0), ("all_gather", 1.0), ("reduce_scatter", 1.0)):
            sent = passes * (float(n) - 1.0) / float(n) * float(size)
            row = {"op_name": op, "nccl_dtype": "half", "num_gpus": float(n), "message_size": float(size) / 2.0,
                   "latency": sent / (float(rate) * 1e9) * 1e3, "version": ""}  # fmt: skip
            table = {c: np.repeat(np.asarray([v]), SAME) for c, v in row.items()}
            out.append(Part(machine, "nccl", "NCCL", f"{op}-host", table, target))
    return out


LIBRARY = Spec(
    "collective", "collective.parquet", _named,
    lambda t, on: _prepared(collective.op(t), on, ""), _seconds, NCCL, ({},), ("num_gpus", "message_size"),
    even=True, also=_published,
)  # fmt: skip


def _launched(table: Table) -> np.ndarray:
    how = ["eager" if "eager" in str(k).lower() else "graph" for k in table["kernel_source"]]
    return np.asarray([h + f for h, f in zip(how, _over(table), strict=True)])


ENGINES = Spec(
    "custom_allreduce", "custom_allreduce.parquet", _launched, _own, _own_seconds, PEERS, ({},),
    ("num_gpus", "message_size"), keep=_smaller, even=True, of=_of,
)  # fmt: skip


def leave_out(name: str) -> Efficiency:
    """The calibration of a device from measurements of the others only."""
    found = classes.leave_out([LIBRARY, ENGINES], name)
    return replace(found, fits={k: f for k, f in found.fits.items() if not (k[0] == ENGINES.op and "-host" in k[1])})


def _to_library() -> None:
    """Engines leave all-reduces through the host to the library (vLLM and SGLang beyond two devices, TensorRT-LLM all):
    a machine that nobody recorded has the library's."""
    path = CALIBRATION / f"nvidia-gpu/{ENGINES.op}.yaml"
    data = yaml.safe_load(path.read_text())
    rows = [r for r in data["classes"] if not r["dtype"].endswith("-host")]
    write("nvidia-gpu", ENGINES.op, {**data, "classes": rows})


if __name__ == "__main__":
    for spec in (LIBRARY, ENGINES):
        asked = [a for a in sys.argv[1:] if a != "pool"]
        if asked:
            extend(spec, asked)
        else:
            run(spec, "pool" in sys.argv)
            _to_library()
