"""Fit op classes whose kernels choose a structure: a few discrete choices tried in turn, coefficients by least squares.

Shared by attention, MLA, MoE and collectives. A class is a number format and an engine, or one kernel of it; the
class of an engine is that of its commonest kernel, and ``*`` the class of the engine closest to all.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import yaml
from benchmarks.fit.common import CALIBRATION, DATE, Array, errors, folds, home, interval, write
from benchmarks.fit.spec import (
    MOST,
    Free,
    Part,
    Spec,
    carried,
    family,
    parts_of,
    predictor,
    reference,
    stated,
    thin,
)
from scipy.optimize import least_squares

from tierwise.cost.types import Efficiency, Fit
from tierwise.cost.versions import release

# Ratios further off than this count linearly; a coefficient one e-fold (or one unit of a power) off its prior costs
# as much as a 3 % error on every row.
ROBUST, PRIOR = 0.1, 0.03
FOLDS = 3
# Relatives whose structure and coefficients a class of a further device starts from.
NEAREST = 3
Values = dict[str, float]


def solve(predict: Callable[[Mapping[str, float]], Array], measured: Array, free: Mapping[str, Free],
          start: Mapping[str, float], steps: int) -> Values:  # fmt: skip
    """Robust least squares on log ratios; powers are fitted as they are, all else on a log scale."""
    names, power = list(free), np.asarray([f.power for f in free.values()])

    def coded(values: Sequence[float]) -> Array:
        v = np.asarray(values, dtype=float)
        return np.where(power, v, np.log(np.where(power, 1.0, np.maximum(v, 1e-15))))

    prior, low, high = (coded([getattr(f, a) for f in free.values()]) for a in ("start", "low", "high"))
    x0 = np.clip(coded([start.get(n, free[n].start) for n in names]), low + 1e-6, high - 1e-6)
    target, pull = np.log(measured), PRIOR * np.sqrt(measured.size / 1000.0)

    def decoded(x: Array) -> Values:
        return dict(zip(names, np.where(power, x, np.exp(np.where(power, 0.0, x))).tolist(), strict=True))

    def residual(x: Array) -> Array:
        ratio = np.log(np.maximum(predict(decoded(x)), 1e-9)) - target
        return np.concatenate([ratio, pull * (x - prior)])

    found = least_squares(residual, x0, loss="soft_l1", f_scale=ROBUST, max_nfev=steps, bounds=(low, high))
    return decoded(found.x)


def fit(spec: Spec, parts: Sequence[Part], steps: int = 25) -> Values:
    """Coefficients of one class: every structure for a few steps, the best two to the end."""
    few = thin(parts, even=spec.even)
    predict, measured = predictor(spec, few), np.concatenate([p.measured for p in few])

    def tried(choice: Mapping[str, float], start: Mapping[str, float], steps: int) -> tuple[float, Values]:
        got = {**choice, **solve(lambda v: predict({**choice, **v}), measured, spec.free, start, steps)}
        e = errors(predict(got), measured)
        return e["median"] + 0.5 * e["mean"], got

    first = [(*tried(c, {}, 14 if len(spec.choices) > 1 else steps), dict(c)) for c in spec.choices]
    first.sort(key=lambda x: x[0])
    if len(first) == 1:
        return first[0][1]
    last = [tried(c, got, steps) for _, got, c in first[:3]]
    return min(last, key=lambda x: x[0])[1]


def near(spec: Spec, parts: Sequence[Part]) -> Values:
    """Coefficients of a class, starting from those of the donors that come closest to its rows as they are: kernels
    have relatives, and a device of a known architecture says little that its siblings did not."""
    few = thin(parts)
    small = thin(parts, 300)
    kind, measured = parts[0].dtype, np.concatenate([p.measured for p in few])
    alike = [v for dtype, v in spec.donors if dtype == kind] or [v for _, v in spec.donors]
    quick, rough = predictor(spec, small), np.concatenate([p.measured for p in small])

    def off(values: Mapping[str, float]) -> float:
        ratio = np.log(np.maximum(quick(values), 1e-12) / rough)
        # A level that is off is quickly mended, a shape is not.
        return float(np.median(np.abs(ratio - np.median(ratio))) + 0.3 * np.abs(np.median(ratio)))

    tried = []
    for donor in sorted(alike, key=off)[:NEAREST]:
        choice = {n: v for n, v in donor.items() if n not in spec.free}
        free = {n: replace(f, start=float(np.clip(donor.get(n, f.start), f.low, f.high))) for n, f in spec.free.items()}
        predict = predictor(spec, few)
        got = {**choice, **solve(lambda v: predict({**choice, **v}), measured, free, {}, 25)}  # noqa: B023
        e = errors(predict(got), measured)
        tried.append((e["median"] + 0.5 * e["mean"], got))
    return min(tried, key=lambda x: x[0])[1]


def donors(op: str, device: str) -> list[tuple[str, Values]]:
    """(number formats, coefficients) of every class of an op that was fitted on another device."""
    out = []
    for path in sorted(CALIBRATION.glob(f"*/{op}.yaml")):
        data = yaml.safe_load(path.read_text())
        if data.get("devices") and device not in data["devices"]:
            for r in data["classes"]:
                if r["engine"] != "*":
                    out.append((str(r["dtype"]), {**data.get("shared", {}), **r["coefficients"]}))
    return out


def held_out(spec: Spec, parts: Sequence[Part], values: Values) -> Array:
    """Predictions of every row by coefficients (of the same structure) that saw no row of its shape."""
    choice = {n: v for n, v in values.items() if n not in spec.free}
    numbers = [folds([np.asarray(p.table[c]) for c in spec.shape], FOLDS) for p in parts]
    out = [np.empty(p.measured.size) for p in parts]
    for fold in range(FOLDS):
        seen = thin([p.some(np.flatnonzero(n != fold)) for p, n in zip(parts, numbers, strict=True)])
        seen = [p for p in seen if p.measured.size]
        predict, measured = predictor(spec, seen), np.concatenate([p.measured for p in seen])
        got = {**choice, **solve(lambda v: predict({**choice, **v}), measured, spec.free, values, 8)}  # noqa: B023
        for p, n, o in zip(parts, numbers, out, strict=True):
            rows = np.flatnonzero(n == fold)
            if rows.size:
                o[rows] = predictor(spec, [p.some(rows)])(got)
    return np.concatenate(out)


def row(spec: Spec, parts: Sequence[Part], engine: str, check: bool = True) -> dict[str, object]:
    """One class as the file has it."""
    spec = spec.of(spec, parts)
    values = near(spec, parts) if spec.donors else fit(spec, parts)
    measured = np.concatenate([p.measured for p in parts])
    predicted = predictor(spec, parts)(values)
    made: dict[str, float] = {"rows": measured.size, **errors(predicted, measured)}
    limits = interval(predicted, measured)
    if check and measured.size >= 60:
        unseen = held_out(spec, parts, values)
        made |= {f"unseen_{k}": v for k, v in errors(unseen, measured).items() if k != "p90"}
        limits = interval(unseen, measured)
    said = {"version": v} if (v := version(parts)) else {}
    return {"dtype": parts[0].dtype, "engine": engine, **said, "coefficients": values, "interval": limits,
            "errors": made}  # fmt: skip


def version(parts: Sequence[Part]) -> str:
    """The newest version of the engine that rows were recorded under; ``""`` where none is said."""
    found = {str(v) for p in parts for v in np.unique(p.table["version"].astype(str))} if parts else set()
    return max(found, key=release, default="")


def classes(spec: Spec, parts: Sequence[Part], quick: bool = False) -> list[dict[str, object]]:
    """Every class of one device (or of several together): by kernel, by engine, of a typical engine."""
    out: list[dict[str, object]] = []
    for kind in sorted({p.dtype for p in parts}):
        same = [p for p in parts if p.dtype == kind]
        common: dict[str, list[Part]] = {}
        found: dict[str, Values] = {}
        for engine in sorted({p.engine for p in same}):
            own = [p for p in same if p.engine == engine]
            count = {k: sum(p.measured.size for p in own if p.kernel == k) for k in sorted({p.kernel for p in own})}
            most = max(count, key=lambda k: count[k])
            common[engine] = [p for p in own if p.kernel == most] if spec.kernels else own
            if quick:
                found[engine] = fit(spec.of(spec, common[engine]), common[engine])
                continue
            for kernel in count if spec.kernels else (most,):
                rows = [p for p in own if p.kernel == kernel] if spec.kernels else own
                made = row(spec, rows, engine if kernel == most else f"{engine}:{kernel}")
                out.append({**made, "kernel": kernel})
                _say(own[0].system, kind, engine, kernel, made)
                if kernel == most:
                    found[engine] = made["coefficients"]  # type: ignore[assignment]
        out.append(_typical(spec, kind, common, found))
        _say("/".join(sorted({p.system for p in same})), kind, "*", "", out[-1])
    return out


def _typical(spec: Spec, kind: str, common: Mapping[str, list[Part]], found: Mapping[str, Values]) -> dict[str, object]:
    """The class of an engine that is not named: that of the engine which says most about all of them."""
    every = [p for parts in common.values() for p in thin(parts, 2 * MOST)]
    measured = np.concatenate([p.measured for p in every])
    predict = predictor(spec, every)
    scores = {e: errors(predict(v), measured) for e, v in found.items()}
    best = min(scores, key=lambda e: scores[e]["median"])
    made: dict[str, float] = {"rows": measured.size, **scores[best]}
    return {"dtype": kind, "engine": "*", "coefficients": found[best], "errors": made,
            "interval": interval(predict(found[best]), measured)}  # fmt: skip


def _say(system: str, kind: str, engine: str, kernel: str, made: Mapping[str, object]) -> None:
    e: Mapping[str, float] = made["errors"]  # type: ignore[assignment]
    text = " ".join(f"{k} {v:.3f}" for k, v in e.items() if k != "rows")
    print(f"{time.strftime('%H:%M:%S')} {system} {kind} {engine} {kernel} n={e['rows']:.0f} {text}", file=sys.stderr,
          flush=True)  # fmt: skip


def extend(spec: Spec, asked: Sequence[str]) -> None:
    """Fit a spec on further systems, starting from the classes on file of others; write their files."""
    every = parts_of(spec)
    for name in asked:
        own = [p for p in every if p.system == name]
        if own:
            device = own[0].target.device
            rows = classes(replace(spec, donors=donors(spec.op, device.name)), own)
            head = {"source": source(spec) + "; from the nearest classes of other devices", "devices": [device.name],
                    **family(spec, device)}  # fmt: skip
            write(home(device, spec.op), spec.op, {**head, "classes": rows + _any(rows)})


def source(spec: Spec) -> str:
    return f"AIConfigurator's collected data (Apache-2.0), {spec.file}; least squares on log ratios, {DATE}"


def run(spec: Spec, only_pool: bool = False) -> None:
    """Fit a spec on every device, then on all together, with each device held out in turn; write the files."""
    every = parts_of(spec)
    systems = sorted({p.system for p in every})
    for name in () if only_pool else systems:
        own = [p for p in every if p.system == name]
        device = own[0].target.device
        rows = classes(spec, own)
        head = {"source": source(spec), "devices": [device.name], **family(spec, device)}
        write(home(device, spec.op), spec.op, {**head, "classes": rows + _any(rows)})
    common = reference(every[0].target.device)
    few = replace(spec, choices=spec.general or spec.choices, at=common)
    pool = every + spec.also()
    strange = _left_out(few, pool, sorted({p.system for p in pool}))
    for folder in sorted({home(p.target.device, spec.op) for p in every}):
        data = yaml.safe_load((CALIBRATION / folder / f"{spec.op}.yaml").read_text())
        for r in data["classes"]:
            if r["dtype"] in strange:
                r["transferred"] = _between(r["interval"], strange[r["dtype"]]["interval"])  # type: ignore[arg-type]
        write(folder, spec.op, data)
    rows = classes(few, pool, quick=True)
    rows = [{**r, **strange.get(str(r["dtype"]), {})} for r in rows + _any(rows)]
    said = source(spec) + "; errors and intervals on devices left out"
    head = {"source": said, "devices": [], **stated(spec, common)}
    write("nvidia-gpu", spec.op, {**head, "classes": rows})


def leave_out(specs: Sequence[Spec], name: str) -> Efficiency:
    """The calibration of a device, some op classes of which were measured on the others only."""
    fits: dict[tuple[str, str, str], Fit] = {}
    target = None
    for spec in specs:
        every = parts_of(spec) + spec.also()
        there = next((p.target for p in every if p.system == name), None)
        if there is None:
            continue
        target = there
        few = replace(spec, choices=spec.general or spec.choices, at=reference(every[0].target.device))
        rows = classes(few, [p for p in every if p.system != name], quick=True)
        factors = carried(few, there.device)
        for r in rows + _any(rows):
            values = {n: v * factors.get(n, 1.0) for n, v in r["coefficients"].items()}  # type: ignore[attr-defined]
            key = (spec.op, str(r["dtype"]), str(r["engine"]))
            fits[key] = Fit(*key, values, "transferred", _strange(spec.op, key[1]), "devices other than " + name)
    if target is None:
        raise ValueError(f"{name}: no rows of it")
    return replace(target.efficiency, fits=fits, basis="transferred")


def _strange(op: str, dtype: str) -> tuple[float, float]:
    """The interval on file for devices that were not measured."""
    data = yaml.safe_load((CALIBRATION / "nvidia-gpu" / f"{op}.yaml").read_text())
    rows = [r for r in data["classes"] if r["dtype"] == dtype] or data["classes"]
    low, high = rows[0]["interval"]
    return float(low), float(high)


def _any(rows: Sequence[Mapping[str, object]]) -> list[dict[str, object]]:
    """The class of formats that were not measured: as the plainest, with twice its spread."""
    plain = [r for r in rows if str(r["dtype"]) in ("bf16", "bf16-bf16") and r["engine"] == "*"]
    low, high = plain[0]["interval"] if plain else (1.0, 1.0)  # type: ignore[misc]
    return [{**r, "dtype": "*", "interval": (low**2, high**2)} for r in plain]


def _left_out(spec: Spec, every: Sequence[Part], systems: Sequence[str]) -> dict[str, dict[str, object]]:
    """By class: errors and interval on devices the fit has not seen."""
    ratios: dict[str, list[tuple[Array, Array]]] = {}
    for name in systems:
        for r in classes(spec, [p for p in every if p.system != name], quick=True):
            there = [p for p in every if p.system == name and p.dtype == r["dtype"]]
            if there:
                there = thin(there, 4 * MOST)
                predicted = predictor(spec, there)(r["coefficients"])  # type: ignore[arg-type]
                measured = np.concatenate([p.measured for p in there])
                ratios.setdefault(str(r["dtype"]), []).append((predicted, measured))
                e = errors(predicted, measured)
                print(f"left out {name} {r['dtype']} median {e['median']:.3f} mean {e['mean']:.3f}", file=sys.stderr,
                      flush=True)  # fmt: skip
    out: dict[str, dict[str, object]] = {}
    for kind, pairs in ratios.items():
        predicted, measured = (np.concatenate(x) for x in zip(*pairs, strict=True))
        out[kind] = {"interval": interval(predicted, measured), "errors": errors(predicted, measured)}
    return out


def _between(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
    """A sibling of a measured device is better known than a stranger: half way, on a log scale."""
    low, high = (float(np.sqrt(x * y)) for x, y in zip(a, b, strict=True))
    return low, high
