"""Fit the GEMM coefficients: ``python -m benchmarks.fit.gemm`` rewrites ``calibration/*/matmul.yaml``.

Of systems given as arguments only their own classes; ``--again DTYPE`` (``fp8``) fits the classes of one format anew
and leaves all else as it is on file.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import yaml
from benchmarks.fit.common import CALIBRATION, DATE, SHARED, Free, errors, folds, home, interval, sample, solve, write
from benchmarks.fit.spec import reference
from numpy.typing import NDArray

from tierwise.cost import Efficiency, Target, efficiency
from tierwise.cost.calibrate import siblings
from tierwise.cost.matmul import kernel_class
from tierwise.cost.types import Fit
from tierwise.cost.versions import release
from tierwise.machines import system
from tierwise.machines.types import Device
from tierwise.measure.ops import Table, groups, read
from tierwise.measure.rows import gemm

Values = dict[str, float]
Rows = NDArray[np.intp]

FILE = SHARED / "data/ops/gemm.parquet"
SOURCE = f"AIConfigurator's collected performance data (Apache-2.0), gemm; least squares on log ratios, {DATE}"

# Kernel coefficients: prior, least, most. Fractions, counts of K elements or tile sides, or seconds.
KERNEL = {
    "compute": Free(0.85, 0.3, 1.0),
    "memory": Free(0.9, 0.5, 1.0),
    "cache": Free(0.9, 0.2, 3.0),
    "launch": Free(2.2e-6, 1e-6, 3e-5),
    "startup": Free(200.0, 20.0, 4000.0),
    "step": Free(1e-9, 1e-11, 1e-8),
    "shape": Free(10.0, 0.5, 100.0),
    "waves": Free(0.8, 0.05, 1.0),
    "split": Free(2e-6, 1e-7, 1e-3),
    "overlap": Free(4.0, 1.5, 12.0),
    "sustained": Free(0.1, 0.003, 1.0),
}
# Of the device, whoever wrote the kernel.
DEVICE = {
    "usable": Free(0.7, 0.2, 1.2),
    "wake": Free(1e-6, 1e-8, 1e-5),
    "refetch": Free(0.5, 0.01, 3.0),
}
QUANTIZE = {
    "quantize": Free(1.5e-6, 1e-8, 3e-5),
    "requant": Free(1.0, 0.01, 20.0),
    "rows": Free(5e-7, 1e-10, 1e-5),
}
HOST = {"host": Free(1e-4, 1e-5, 1e-3)}
ABSENT = dict.fromkeys((*QUANTIZE, *HOST, "aim"), 0.0)
# What carries to a sibling with its clock, see ``tierwise.cost.calibrate``.
CYCLES = ("launch", "wake", "step", "split", "quantize", "rows")
# How kernels pick their tiles: the best of the menu, or tiles half as tall as there are rows.
AIMS = (0.0, 0.5)
PLAIN = ("bf16", "int8-wo", "int4-wo")
# Loops whose smallest kernels take longer than this were launched by the host, one by one.
EAGER = 40e-6
MOST = 1000
FOLDS = 3


@dataclass(frozen=True)
class Block:
    """Rows of one device, engine, kernel and format."""

    system: str
    engine: str
    kernel: str
    name: str
    table: Table
    target: Target
    measured: NDArray[np.float64]

    @property
    def eager(self) -> bool:
        return bool(self.measured.min() > EAGER)

    def some(self, rows: Rows) -> Block:
        return replace(self, table={k: v[rows] for k, v in self.table.items()}, measured=self.measured[rows])


def blocks() -> list[Block]:
    """All rows of the file, by system, engine, kernel and format."""
    table = read(FILE)
    out = []
    for (name, engine, kernel, _), rows in groups(table, ("system", "engine", "kernel_source", "gemm_dtype")).items():
        part = {c: v[rows] for c, v in table.items()}
        machine = system(name)
        target = Target(machine, replace(efficiency(machine.device), fits={}))
        kind = str(kernel_class(gemm.op(part)))
        out.append(Block(name, engine, kernel, kind, part, target, part["latency"] * 1e-3))
    return out


def seconds(block: Block, values: Mapping[str, float]) -> NDArray[np.float64]:
    """Predicted seconds of a block's rows."""
    fit = Fit("matmul", block.name, "*", {**ABSENT, **values}, "calibrated", (1.0, 1.0), "")
    eff = replace(block.target.efficiency, fits={("matmul", block.name, "*"): fit})
    return np.asarray(gemm.cost(block.table, replace(block.target, efficiency=eff)).time)


def _thin(found: Sequence[Block], most: int = MOST) -> list[Block]:
    """A sample of each block, all together at most so many rows."""
    share = most // len(found)
    return [b.some(sample(np.arange(b.measured.size), share)) for b in found]


def fit(found: Sequence[Block], fixed: Mapping[str, float], start: Mapping[str, float] | None = None) -> Values:
    """Coefficients of one class: blocks of the same format, perhaps of several engines or devices."""
    free = dict(KERNEL)
    if found[0].name not in PLAIN:
        free |= QUANTIZE
    if any(b.eager for b in found):
        free |= HOST
    fixed = dict(fixed)
    if all(b.eager for b in found):
        # What the host launched one by one does not say how long its kernels take to begin in a recorded graph.
        fixed |= {name: free.pop(name).start for name in ("launch", "quantize") if name in free}
    free |= {k: v for k, v in DEVICE.items() if k not in fixed}
    measured = np.concatenate([b.measured for b in found])
    picks = AIMS if start is None and found[0].name not in PLAIN else ((start or {}).get("aim", 0.0),)
    tried = []
    for aim in picks:
        base = {**ABSENT, **fixed, "aim": aim}

        def predict(v: Mapping[str, float], base: Mapping[str, float] = base) -> NDArray[np.float64]:
            return np.concatenate([seconds(b, {**base, **v}) for b in found])

        got = {**base, **solve(predict, measured, free, start, 25 if start is None else 8)}
        tried.append((errors(predict(got), measured), got))
    return min(tried, key=lambda pair: pair[0]["median"] + pair[0]["mean"])[1]


def device_values(found: Sequence[Block]) -> Values:
    """What belongs to the device: the geometric mean of what its plain bf16 kernels say."""
    plain = [fit(_thin([b]), {}) for b in found if b.name == "bf16"]
    return {n: float(np.exp(np.mean([np.log(p[n]) for p in plain]))) for n in DEVICE}


def held_out(found: Sequence[Block], fixed: Mapping[str, float], start: Mapping[str, float]) -> NDArray[np.float64]:
    """Predictions of every row from fits that saw no row of its (n, k)."""
    numbers = [folds((b.table["n"], b.table["k"]), FOLDS) for b in found]
    out = [np.empty(b.measured.size) for b in found]
    for fold in range(FOLDS):
        seen = _thin([b.some(np.flatnonzero(f != fold)) for b, f in zip(found, numbers, strict=True)])
        values = fit(seen, fixed, start)
        for b, f, o in zip(found, numbers, out, strict=True):
            rows = np.flatnonzero(f == fold)
            o[rows] = seconds(b.some(rows), values)
    return np.concatenate(out)


def row(found: Sequence[Block], engine: str, fixed: Mapping[str, float], check: bool = True) -> dict[str, object]:
    """One class as the file has it."""
    values = fit(_thin(found), fixed)
    measured = np.concatenate([b.measured for b in found])
    predicted = np.concatenate([seconds(b, values) for b in found])
    made: dict[str, float] = {"rows": measured.size, **errors(predicted, measured)}
    limits = interval(predicted, measured)
    if check:
        unseen = held_out(found, fixed, values)
        made |= {f"unseen_{k}": v for k, v in errors(unseen, measured).items() if k != "p90"}
        limits = interval(unseen, measured)
    own = {k: v for k, v in values.items() if k not in fixed}
    versions = {str(v) for b in found for v in b.table["version"]}
    said = {"version": max(versions, key=release)}
    return {"dtype": found[0].name, "engine": engine, **said, "coefficients": own, "interval": limits, "errors": made}


def classes(
    found: Sequence[Block], fixed: Mapping[str, float], check: bool = True, kernels: bool = True
) -> list[dict[str, object]]:
    """Every class: by kernel where an engine has several, by engine, and of a typical engine."""
    out: list[dict[str, object]] = []
    for name in sorted({b.name for b in found}):
        same = [b for b in found if b.name == name]
        engines = sorted({b.engine for b in same})
        for engine in engines:
            own = [b for b in same if b.engine == engine]
            if kernels and len(own) > 1:
                out += [row([b], f"{engine}:{b.kernel}", fixed, check) for b in own]
            out.append(row(own, engine, fixed, check))
        quick = [b for b in same if not b.eager] or same
        alone = {b.engine for b in quick} == set(engines) and len(engines) == 1
        out.append({**out[-1], "engine": "*"} if alone else row(quick, "*", fixed, check))
        print({b.system for b in found}, name, out[-1]["errors"], file=sys.stderr, flush=True)
    return out


def pooled(found: Sequence[Block], own: Mapping[str, Values] | None = None) -> list[dict[str, object]]:
    """Classes over several devices, for one that was not measured; ``own``: what belongs to each, if that is known."""
    if own is None:
        own = {name: device_values([b for b in found if b.system == name]) for name in {b.system for b in found}}
    fixed = {n: float(np.exp(np.mean([np.log(own[s][n]) for s in sorted(own)]))) for n in DEVICE}
    return [{**r, "coefficients": {**fixed, **r["coefficients"]}}  # type: ignore[dict-item]
            for r in classes(found, fixed, check=False, kernels=False)]  # fmt: skip


def table_of(rows: Sequence[Mapping[str, Any]], basis: str = "transferred") -> dict[tuple[str, str, str], Fit]:
    """Classes as prices look them up."""
    return {
        ("matmul", r["dtype"], r["engine"]): Fit("matmul", r["dtype"], r["engine"], r["coefficients"], basis,
                                                 tuple(r.get("transferred", r["interval"])), SOURCE)
        for r in rows
    }  # fmt: skip


def leave_out(
    name: str, every: Sequence[Block] | None = None, own: Mapping[str, Values] | None = None
) -> Efficiency:  # fmt: skip
    """The calibration of a device from measurements of the others only."""
    every = every or blocks()
    there = next(b for b in every if b.system == name)
    rest = pooled([b for b in every if b.system != name], own and {k: v for k, v in own.items() if k != name})
    return replace(there.target.efficiency, fits=table_of(rest), basis="transferred")


def _spread(every: Sequence[Block], own: Mapping[str, Values] | None = None) -> dict[str, dict[str, object]]:
    """By format: errors and interval on devices the fit has not seen."""
    names, ratios = sorted({b.system for b in every}), {}
    for name in names:
        fits = leave_out(name, every, own).fits
        for b in (b for b in every if b.system == name):
            keys = [("matmul", b.name, e) for e in (b.engine, "*")]
            values = next((fits[k].values for k in keys if k in fits), None)
            if values is not None:
                host = {"host": values["host"] or 1e-9} if b.eager else {"host": 0.0}
                ratios.setdefault(b.name, []).append((seconds(b, {**values, **host}), b.measured))
    out = {}
    for name, parts in ratios.items():
        predicted, measured = (np.concatenate(x) for x in zip(*parts, strict=True))
        out[name] = {"interval": interval(predicted, measured), "errors": errors(predicted, measured)}
    return out


def _between(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
    """A sibling of a measured device is better known than a stranger: half way, on a log scale, and never better
    than the device itself."""
    return min(a[0], float(np.sqrt(a[0] * b[0]))), max(a[1], float(np.sqrt(a[1] * b[1])))


def near(device: Device) -> dict[str, object]:
    """What carries to siblings, where two devices of the family were measured and show that it does."""
    shown = siblings(device, "matmul", frozenset({device.name}))
    return {"at": reference(device), "cycles": list(CYCLES)} if shown else {}


def again(every: Sequence[Block]) -> None:
    """Rewrite the classes of one format, of each device and of all together; what belongs to a device stays."""
    files = {b.system: home(b.target.device, "matmul") for b in every}
    held = {folder: yaml.safe_load((CALIBRATION / folder / "matmul.yaml").read_text())
            for folder in {*files.values(), "nvidia-gpu"}}  # fmt: skip
    own = {name: {k: float(v) for k, v in held[folder]["shared"].items()} for name, folder in files.items()}
    strange = _spread(every, own)[every[0].name]
    made = {folder: classes([b for b in every if b.system == name], own[name]) for name, folder in files.items()}
    for r in (r for rows in made.values() for r in rows):
        r["transferred"] = _between(r["interval"], strange["interval"])  # type: ignore[arg-type]
    made["nvidia-gpu"] = [{**r, **strange} for r in pooled(every, own)]
    for folder, rows in made.items():
        new = {(r["dtype"], r["engine"]): r for r in rows}
        for r in held[folder]["classes"]:
            if (key := (r["dtype"], r["engine"])) in new:
                print(folder, *key, r.get("errors", {}), "->", new[key]["errors"], flush=True)
        kept = [new.get((r["dtype"], r["engine"]), r) for r in held[folder]["classes"]]
        write(folder, "matmul", {**held[folder], "classes": kept})


def main() -> None:
    """All devices and all together; of the systems given as arguments only their own classes."""
    every, asked = blocks(), sys.argv[1:]
    if asked[:1] == ["--again"]:
        again([b for b in every if b.name == asked[1]])
        return
    strange = {} if asked else _spread(every)
    print("devices left out", strange, file=sys.stderr)
    for name in asked or sorted({b.system for b in every}):
        own = [b for b in every if b.system == name]
        device = own[0].target.device
        fixed = device_values(own)
        rows = classes(own, fixed)
        for r in rows:
            if str(r["dtype"]) in strange:
                r["transferred"] = _between(r["interval"], strange[str(r["dtype"])]["interval"])  # type: ignore
        write(home(device, "matmul"), "matmul",
              {"source": SOURCE, "devices": [device.name], **near(device), "shared": fixed,
               "classes": rows})  # fmt: skip
    if asked:
        return
    rows = pooled(every)
    rows = [{**r, **strange.get(str(r["dtype"]), {})} for r in rows]
    write("nvidia-gpu", "matmul", {"source": SOURCE + "; errors and intervals on devices left out", "devices": [],
                                   "classes": rows})  # fmt: skip


if __name__ == "__main__":
    main()
