"""Fit the kernels of llama.cpp, its forks and MLX to recorded tokens per second (data/edge).

    python benchmarks/fit/edge.py edge_dev.parquet [--only cuda,metal] [--write]

Each backend is one file of cost/own_kernels. A row's weight is one over the root of the rows its device has in
its phase, so that a device with many rows does not decide alone. Every device is then left out in turn, the rest fitted
again, and the one left out predicted: these errors and intervals are what the file says of itself.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from benchmarks.fit.edge_table import CLASSES, Flat, flat, rates
from numpy.typing import NDArray
from scipy.optimize import least_squares

from tierwise.cost.kits import Kit
from tierwise.measure.edge import Work, works
from tierwise.measure.ops import read

FOLDER = Path(__file__).parents[2] / "src/tierwise/cost/own_kernels"
Array = NDArray[np.float64]

# Kernels of an op, counted in llama.cpp's graphs (src/llama-graph.cpp) and backends: a product also quantizes its
# input; a norm is two kernels, with the addition of the residual three; rope and cache four; experts three products,
# their activation, weighting and sum.
KERNELS = {"matmul": 1.5, "moe": 8.0, "norm": 3.0, "rope_cache": 4.0, "attention": 4.0, "flash": 1.5, "act": 1.0,
           "topk": 5.0, "scan": 3.0, "embedding": 1.0, "elementwise": 1.0, "sample": 1.0}  # fmt: skip
CLASS = {"memory": 0.9, "work": 8.0, "mac": 4.0, "rate": 0.2, "pad": 16.0}
VALUES = {"gap": 3e-6, "step": 2e-4, "acts": 0.5, "experts": 1.2, "kv_flash": 0.6, "kv_plain": 0.5,
          "kv_work_flash": 2.0, "kv_work_plain": 2.0, "attn_flash": 0.3, "attn_plain": 0.2, "scan": 0.1,
          "sync": 3e-5, "link": 0.25, "stages": 0.75, "acts_work": 5.0, "kv_tile": 64.0,
    "flight": 3.2e3, "scores": 0.5}  # fmt: skip
# How far (in log) a coefficient strays from where it starts before that costs as much as one device's rows being off by
# a tenth: coefficients that the rows do not tell stay put.
PRIOR = 1.0
# Rows below which devices are left out together.
FEW = 12
# Not fitted: copies between cards without peer access pass the host's memory, so two of them share the link, each at
# half of its rate.
FIXED = ("link",)
MOST = {"memory": 0.97, "rate": 0.95, "kv_flash": 0.95, "kv_plain": 0.95, "attn_flash": 0.9, "attn_plain": 0.9}


@dataclass(frozen=True)
class Backend:
    """What one file is fitted to.

    Attributes:
        engines, runs_on, peaks: as in the file. ``keep``: its rows.
        values, classes: where coefficients start that differ from the usual. ``like``: the backend whose fit they start
            from instead.
        still: coefficients that are not fitted: processors' prompts are too few to tell moving from multiplying.
        builds: before which something was different; ``families``: on which something is, in kernels for few rows and
            many; ``known``: share of the peak that a family's matrix instructions reach at most, from elsewhere.
    """

    engines: tuple[str, ...]
    runs_on: dict[str, list[str]]
    keep: Callable[[Work], bool]
    peaks: dict[str, str]
    values: dict[str, float] = field(default_factory=dict)
    classes: dict[str, dict[str, float]] = field(default_factory=dict)
    builds: tuple[int, ...] = ()
    families: tuple[tuple[str, ...], ...] = ()
    like: str = ""
    known: dict[str, float] = field(default_factory=dict)
    still: tuple[str, ...] = ()


def _engine(w: Work) -> str:
    return w.group.engine.partition("@")[0]


def _kind(w: Work) -> str:
    return w.group.machine.device.kind


def _vendor(w: Work) -> str:
    return w.group.machine.device.vendor


# Half-precision products accumulate in half precision (cublasGemmEx, COMPUTE_16F), which cards that halve the rate of
# fp32 accumulation run at half of int8, as the others do.
INT8 = {"f16": "int8", "q8": "int8", "q5": "int8", "q4": "int8", "k": "int8", "iq": "int8"}
FP16 = dict.fromkeys(CLASSES, "fp16")
CPU = {"f16": "fp32", "q8": "int8", "q5": "int8", "q4": "int8", "k": "int8", "iq": "int8"}
MOVES = ("acts", "acts_work", "scores", "flight")
SLOW = {c: {"memory": 0.7, "work": 0.5, "mac": 1.0, "pad": 1.0} for c in CLASSES}

BACKENDS = {
    "cuda": Backend(
        ("llama.cpp",),
        {"kinds": ["gpu", "soc"], "vendors": ["nvidia"]},
        lambda w: _engine(w) == "llama.cpp" and _vendor(w) == "NVIDIA",
        INT8,
        classes={"f16": {"rate": 0.4}},
        builds=(2000,),
        # mma instructions, which these kernels use, reach 62.9 % of the peak of Hopper: luo2024.
        known={"hopper": 0.629},
    ),
    "metal": Backend(
        ("llama.cpp",),
        {"kinds": ["gpu", "soc"], "vendors": ["apple"]},
        lambda w: _engine(w) == "llama.cpp" and _vendor(w) == "Apple" and _kind(w) != "cpu",
        FP16,
        classes={c: {"work": 8.0, "rate": 0.65} for c in CLASSES},
        builds=(1200,),
        families=(("apple-gpu-9",),),
        values={"flight": 1e5},
        still=("flight",),
    ),
    "rocm": Backend(
        ("llama.cpp",),
        {"kinds": ["gpu", "soc"], "vendors": ["amd"]},
        lambda w: _engine(w) == "llama.cpp" and _vendor(w) == "AMD" and _kind(w) != "cpu",
        INT8,
        builds=(6200,),
        like="cuda",
        still=("flight",),
    ),
    "vulkan": Backend(
        ("llama.cpp-vulkan",),
        {"kinds": ["gpu", "soc"]},
        lambda w: _engine(w) == "llama.cpp-vulkan" and _kind(w) != "cpu",
        INT8,
        builds=(6200,),
        like="cuda",
        known={"hopper": 0.629},
        still=("flight",),
    ),
    "processors": Backend(
        ("llama.cpp",),
        {"kinds": ["cpu", "soc", "mcu"]},
        lambda w: _engine(w) == "llama.cpp" and _kind(w) == "cpu",
        CPU,
        {"gap": 4e-6, "flight": 1e6, "acts": 0.5, "kv_work_flash": 0.5, "kv_work_plain": 0.5},
        SLOW,
        builds=(2700,),
        still=MOVES,
    ),
    "ik-processors": Backend(
        ("ik_llama.cpp",),
        {"kinds": ["cpu", "soc", "mcu"]},
        lambda w: _engine(w) == "ik_llama.cpp" and _kind(w) == "cpu",
        CPU,
        {"gap": 4e-6, "flight": 1e6, "acts": 0.5, "kv_work_flash": 0.5, "kv_work_plain": 0.5},
        SLOW,
        still=MOVES,
    ),
    "mlx": Backend(
        ("mlx",),
        {"kinds": ["gpu", "soc"], "vendors": ["apple"]},
        lambda w: _engine(w) == "mlx",
        FP16,
        values={"flight": 1e5},
        still=("flight",),
    ),
}


def first(name: str, b: Backend, known: Mapping[str, Kit] | None = None) -> Kit:
    """Coefficients before any fit: those of the backend it is like, where that was fitted."""
    if known and b.like in known:
        return replace(known[b.like], name=name, peaks=b.peaks)
    classes = {c: {**CLASS, **b.classes.get(c, {})} for c in CLASSES}
    return Kit(name, {**VALUES, **b.values}, classes, b.peaks, KERNELS, {}, frozenset(), "")


Key = tuple[str, ...]


def keys(ws: list[Work], b: Backend) -> list[Key]:
    """Coefficients that the rows can tell anything about: of all quantized formats together, how a class differs, and
    what is different on a family or was before a build."""
    seen = {_class(w) for w in ws}
    out: list[Key] = [("values", k) for k in VALUES if k not in (*FIXED, *b.still)]
    out += [("shared", k) for k in CLASS]
    out += [("classes", c, k) for c in CLASSES if c in seen for k in CLASS]
    for build in b.builds:
        if any(_build(w) < build for w in ws):
            out += [("builds", str(build), "values", "gap"), ("builds", str(build), "shared", "rate"),
                    ("builds", str(build), "shared", "memory"), ("builds", str(build), "classes", "f16", "rate"),
                    ("builds", str(build), "values", "attn_plain")]  # fmt: skip
    for (family,) in b.families:
        if any(w.group.machine.device.family == family for w in ws):
            out += [("families", family, "shared", "work"), ("families", family, "shared", "rate"),
                    ("families", family, "classes", "f16", "rate")]  # fmt: skip
    return out


def _class(w: Work) -> str:
    from tierwise.cost.ondevice import class_of

    return class_of(w.group.weights)


def _build(w: Work) -> float:
    build = w.group.engine.partition("@")[2]
    return float(build) if build else np.inf


def applied(start: Kit, names: list[Key], logs: Array, build: float, family: str = "") -> Kit:
    """The kit with coefficients multiplied by factors (given as logarithms), as a build sees it."""
    values, classes = dict(start.values), {c: dict(v) for c, v in start.classes.items()}
    for own in classes.values():
        own["rate"] *= BACKENDS[start.name].known.get(family, 1.0)
    for key, x in zip(names, logs, strict=True):
        factor = float(np.exp(x))
        rest: Key = key
        if key[0] == "builds":
            if not build < int(key[1]):
                continue
            rest = key[2:]
        if key[0] == "families":
            if family != key[1]:
                continue
            rest = key[2:]
        if rest[0] == "shared":
            for c, own in classes.items():
                if c != "f16":
                    own[rest[1]] = _most(rest[1], own[rest[1]] * factor)
        elif rest[0] == "values":
            values[rest[1]] = _most(rest[1], values[rest[1]] * factor)
        else:
            classes[rest[1]][rest[2]] = _most(rest[2], classes[rest[1]][rest[2]] * factor)
    return replace(start, values=values, classes=classes)


def _most(name: str, value: float) -> float:
    return min(value, MOST.get(name, value))


def fitted(f: Flat, pick: NDArray[np.bool_], start: Kit, names: list[Key]) -> Array:
    """Logarithms of factors on the starting coefficients, from some of the rows."""
    keys_ = np.char.add(f.device.astype(str), f.phase.astype(str))
    _, index, counts = np.unique(keys_[pick], return_inverse=True, return_counts=True)
    weights = counts[index] ** -0.5
    kinds = kinds_of(f)
    tie = np.asarray([_tie(k) for k in names])

    def residuals(x: Array) -> Array:
        off = np.log(rates(f, {k: applied(start, names, x, *k) for k in kinds}) / f.measured)[pick]
        # Absolute, not squared, beyond a tenth: medians are what is judged.
        soft = np.sign(off) * np.sqrt(2.0 * (np.sqrt(1.0 + (off / 0.1) ** 2) - 1.0)) * 0.1
        return np.concatenate([weights * soft, 0.1 * x / PRIOR * tie / np.sqrt(len(x))])

    return np.asarray(least_squares(residuals, np.zeros(len(names)), max_nfev=25, diff_step=1e-4).x)


def kinds_of(f: Flat) -> list[tuple[float, str]]:
    """Builds and families that occur."""
    return sorted({(float(b), str(x)) for b, x in zip(f.build, f.family, strict=True)})


def _tie(key: Key) -> float:
    """What sets a class apart from the other quantized ones, an older build or a family is tied more strongly."""
    return 2.0 if key[0] in ("builds", "families") else 3.0 if key[0] == "classes" and key[1] != "f16" else 1.0


def ratios(f: Flat, start: Kit, names: list[Key], x: Array) -> Array:
    """Predicted over measured tokens per second."""
    return rates(f, {k: applied(start, names, x, *k) for k in kinds_of(f)}) / f.measured


def left_out(f: Flat, start: Kit, names: list[Key]) -> dict[str, Array]:
    """Predicted over measured by device and phase, each from a fit without the device. Devices of few rows are left out
    several at once, since none of them moves a fit."""
    out = {}
    devices, counts = np.unique(f.device, return_counts=True)
    many = [[d] for d, n in zip(devices, counts, strict=True) if n >= FEW]
    few = [d for d, n in zip(devices, counts, strict=True) if n < FEW]
    for fold in [*many, *([few[::2]] if few else []), *([few[1::2]] if len(few) > 1 else [])]:
        gone = np.isin(f.device, fold)
        x = fitted(f, ~gone, start, names) if not gone.all() else np.zeros(len(names))
        r = ratios(f, start, names, x)
        for name in fold:
            for phase in ("decode", "prefill"):
                if (some := (f.device == name) & (f.phase == phase)).any():
                    out[f"{name}|{phase}"] = r[some]
    return out


def interval(held: dict[str, Array], phase: str) -> list[float]:
    """Factors on the predicted time that hold four in five of the measurements of devices left out, each device
    counted alike."""
    found = [(r, np.full(len(r), 1.0 / len(r))) for k, r in held.items() if k.endswith(phase)]
    if not found:
        return [0.6, 1.7]
    r, w = np.concatenate([a for a, _ in found]), np.concatenate([b for _, b in found])
    order = np.argsort(r)
    at = np.cumsum(w[order]) / w.sum()
    # Predicted over measured rate is measured over predicted time.
    return [round(float(np.interp(q, at, r[order])), 3) for q in (0.1, 0.9)]


def median(r: Array) -> float:
    return float(np.median(np.abs(r - 1.0)))


def report(name: str, f: Flat, all_in: Array, held: dict[str, Array]) -> None:
    for phase in ("decode", "prefill"):
        mine = f.phase == phase
        rows = [r for k, r in held.items() if k.endswith(phase)]
        if not rows:
            continue
        every = np.concatenate(rows)
        print(flush=True)
        print(
            f"{name:14s} {phase:8s} n {int(mine.sum()):5d} in fit {median(all_in[mine]):6.1%} left out "
            f"{median(every):6.1%} by device {np.median([median(r) for r in rows]):6.1%}"
        )
        for k, r in sorted(held.items()):
            if k.endswith(phase):
                print(f"    {k.split('|')[0]:28s} n {len(r):4d} {median(r):6.1%} bias {np.median(r):5.2f}")


def file_of(
    b: Backend, start: Kit, names: list[Key], x: Array, ws: list[Work], held: dict[str, Array]
) -> dict[str, Any]:
    """The calibration file."""
    now = applied(start, names, x, np.inf)
    seen = sorted({w.group.machine.device.name for w in ws})
    builds, families = [], []
    for (family,) in b.families:
        there = applied(start, names, x, np.inf, family)
        families.append({"of": [family], **_changes(now, there)})
    for family in b.known:
        families.append({"of": [family], **_changes(now, applied(start, names, x, np.inf, family))})
    for build in sorted(b.builds, reverse=True):
        then = applied(start, names, x, build - 1)
        builds.append({"before": build, **_changes(now, then)})
    errors = {
        phase: {"rows": sum(len(r) for k, r in held.items() if k.endswith(phase)),
                "left_out": round(median(np.concatenate([r for k, r in held.items() if k.endswith(phase)])), 4)}
        for phase in ("decode", "prefill") if any(k.endswith(phase) for k in held)
    }  # fmt: skip
    return {
        "source": "edge_dev.parquet: tokens per second of llama.cpp and MLX in public benchmarks (sources in its "
                  "README), 2026-11-30; fitted by benchmarks/fit/edge.py, intervals and errors from devices left out",
        "engines": list(b.engines), "runs_on": b.runs_on, "devices": seen, "errors": errors,
        "intervals": {phase: interval(held, phase) for phase in ("decode", "prefill")},
        "peaks": dict(b.peaks), "kernels": dict(KERNELS),
        "values": {k: _short(v) for k, v in now.values.items()},
        "classes": {c: {k: _short(v) for k, v in now.classes[c].items()} for c in now.classes},
        **({"families": families} if families else {}), **({"builds": builds} if builds else {}),
    }  # fmt: skip


def _changes(now: Kit, then: Kit) -> dict[str, Any]:
    """Factors by which coefficients differ."""
    values = {k: _short(v / now.values[k]) for k, v in then.values.items() if v != now.values[k]}
    classes = {c: {k: _short(v / now.classes[c][k]) for k, v in then.classes[c].items() if v != now.classes[c][k]}
               for c in then.classes}  # fmt: skip
    return {"values": values, "classes": {c: v for c, v in classes.items() if v}}


def _short(x: float) -> float:
    return float(f"{x:.4g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("--only", default=",".join(BACKENDS))
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    table = read(given.table)
    for name in given.only.split(","):
        b = BACKENDS[name]
        if not (FOLDER / f"{name}.yaml").exists():
            write(name, file_of(b, first(name, b), [], np.zeros(0), [], {}))
    everything = works(
        table, lambda g: any(g.engine.partition("@")[0] in BACKENDS[n].engines for n in given.only.split(","))
    )
    done: dict[str, Kit] = {}
    for name in given.only.split(","):
        b = BACKENDS[name]
        ws = [w for w in everything if b.keep(w)]
        if not ws:
            continue
        start = first(name, b, done)
        names = keys(ws, b)
        f = flat(ws, KERNELS)
        x = fitted(f, np.full(len(f.measured), True), start, names)
        done[name] = applied(start, names, x, np.inf)
        held = left_out(f, start, names)
        report(name, f, ratios(f, start, names, x), held)
        if given.write:
            write(name, file_of(b, start, names, x, ws, held))


def write(name: str, data: dict[str, Any]) -> None:
    text = yaml.safe_dump(data, sort_keys=False, width=120, default_flow_style=None)
    text = re.sub(r"^(?=source:)", "# Written by benchmarks/fit/edge.py; do not edit by hand.\n", text, count=1)
    (FOLDER / f"{name}.yaml").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
