"""How much wider intervals are for classes carried to a sibling, or to another version of an engine.

``python -m benchmarks.fit.carried`` leaves out every device that has a measured sibling, prices its rows by the
sibling's classes, and writes under ``carried`` of ``calibration/<vendor>/<op>.yaml`` the widening (a logarithm) by
which 80 % of an engine's fall inside: ``device`` where its version is that of the rows, ``version`` where it is not.
``library``: for rows of a version left out, on all devices, priced by another engine's kernels of the same library.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import yaml
from benchmarks.fit.common import CALIBRATION, SHARED, Array, write

from tierwise.cost import efficiency
from tierwise.cost.calibrate import siblings
from tierwise.cost.libraries import stand_ins
from tierwise.cost.versions import same_release
from tierwise.machines import system
from tierwise.measure.ops import Predictions, Table, groups, kind_of, predict, read

FILES = {"matmul": "gemm"} | {o: o for o in ("attention_decode", "attention_prefill", "mla_decode", "mla_prefill",
                                             "moe", "collective", "custom_allreduce")}  # fmt: skip


def excesses(table: Table, op: str) -> dict[tuple[str, str], Array]:
    """By engine and kind of transfer: how far each row lies outside its interval, as a logarithm; negative inside."""
    kind, columns = kind_of(table), ("system", "engine", "version", "kernel_source")
    out: dict[tuple[str, str], list[Array]] = {}
    for (name, engine, version, kernel), rows in groups(table, columns).items():
        device = system(name).device
        without = frozenset({device.name})
        if not siblings(device, op, without):
            continue
        found = efficiency(device, f"{engine}@{version}", without)
        part = {c: v[rows] for c, v in table.items()}
        near = replace(found, fits={k: replace(f, interval=f.plain) for k, f in found.fits.items()})
        over = excess(predict(part, kind, {name: near}))
        # Which class priced them: that of the kernel, else that of the engine, else a typical one.
        keys = [k for k in found.fits if k[0] == op and k[2] in (f"{engine}:{kernel}", engine)]
        named = [k for k in keys if ":" in k[2]] or keys
        same = bool(named) and all(same_release(found.fits[k].version, version) for k in named)
        how = "device" if same or op == "collective" else "version"
        for who in (engine, "*"):
            out.setdefault((who, how), []).append(over)
    return {k: np.concatenate(v) for k, v in out.items()}


def by_library(table: Table, op: str) -> Array:
    """How far rows lie outside the interval of another engine's class of the same library, as a logarithm."""
    kind, columns, out = kind_of(table), ("system", "engine", "version", "kernel_source"), [np.zeros(0)]
    for (name, engine, version, kernel), rows in groups(table, columns).items():
        device, who = system(name).device, f"{engine}@{version}"
        found = efficiency(device, who, frozenset({who}))
        given = stand_ins(engine, version, kernel, found.fits)
        near = {k: replace(f, interval=f.plain) for k, f in given.items() if k[0] == op}
        if near:
            beside = {k: f for k, f in found.fits.items() if k[0] != op}
            p = predict({c: v[rows] for c, v in table.items()}, kind, {name: replace(found, fits={**beside, **near})})
            out.append(excess(p)[p.basis == "transferred"])
    return np.concatenate(out)


def excess(p: Predictions) -> Array:
    """How far each row lies outside its interval, as a logarithm; negative inside."""
    ratio = np.log(p.measured / p.predicted)
    return np.maximum(np.log(p.low / p.predicted) - ratio, ratio - np.log(p.high / p.predicted))


def main() -> None:
    for op, name in FILES.items():
        path = CALIBRATION / "nvidia-gpu" / f"{op}.yaml"
        data = yaml.safe_load(path.read_text())
        table = read(SHARED / "data/ops" / f"{name}.parquet")
        found, shared = excesses(table, op), by_library(table, op)
        wider: dict[str, dict[str, float]] = {}
        for (who, how), over in sorted(found.items()):
            wider.setdefault(who, {})[how] = max(float(np.quantile(over, 0.8)), 0.0)
            print(op, who, how, over.size, round(wider[who][how], 3), file=sys.stderr)
        every = wider.get("*", {})
        for by in wider.values():
            by.setdefault("device", every.get("device", every.get("version", 0.0)))
            by["version"] = max(by.get("version", every.get("version", 0.0)), by["device"])
        if shared.size and "*" in wider:
            wider["*"]["library"] = max(float(np.quantile(shared, 0.8)), 0.0)
            print(op, "library", shared.size, round(wider["*"]["library"], 3), file=sys.stderr)
        if wider:
            head = {k: v for k, v in data.items() if k not in ("carried", "classes")}
            write("nvidia-gpu", op, {**head, "carried": wider, "classes": data["classes"]})


if __name__ == "__main__":
    main()
