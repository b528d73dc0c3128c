"""Fit the kernels of llama.cpp, its forks and MLX to recorded tokens per second (data/edge).

    python -m benchmarks.fit.edge edge_dev.parquet [--only cuda,metal] [--write]

Each backend (edge_backends.py) is one file of cost/own_kernels. Rows of one device tell as much as the root of their
number, so that a device with many rows does not decide alone. Every device is then left out in turn, the rest fitted
again, and the one left out predicted: these errors and intervals are what the file says of itself. Beside the table,
edge_published.csv holds rows that pull requests and issues of the engines state for cards that the table has few or no
rows of; they are fitted to, and not counted in the errors.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from benchmarks.fit.edge_backends import BACKENDS, CLASS, FIXED, KERNELS, MOST, VALUES, Backend, Change, first
from benchmarks.fit.edge_table import CLASSES, Flat, flat, flattened, rates
from numpy.typing import NDArray
from scipy.optimize import least_squares

from tierwise.core.num import Num
from tierwise.cost.kits import Kit
from tierwise.cost.ondevice import class_of
from tierwise.measure.edge import GroupWork, check, works
from tierwise.measure.edge_rows import NEURAL
from tierwise.measure.ops import read

FOLDER = Path(__file__).parents[2] / "src/tierwise/cost/own_kernels"
PUBLISHED = Path(__file__).with_name("edge_published.csv")
Array = NDArray[np.float64]

# Relative error of a row that is not worth a coefficient's straying.
NOISE = 0.1
# How far (standard deviation, in log) a coefficient strays from where it starts: far where nothing else is known, less
# where it starts from another backend's fit; what sets a class of formats apart less, what a build changed more.
OWN, CARRIED, CLASSWISE, CHANGED = 1.0, 0.3, 0.2, 0.5
# Rows below which devices are left out together.
FEW = 12

Key = tuple[str, ...]
PLAIN = ("f16", "bf16")
# Factors that classes share, of quantized and of plain formats.
SHARED: dict[bool, list[Key]] = {False: [("shared", k) for k in CLASS], True: [("shared", "memory")]}


def keys(ws: list[GroupWork], b: Backend) -> list[Key]:
    """Coefficients that the rows can tell anything about: of all quantized formats together, how a class differs, and
    what is different on a family or was before a build."""
    seen = {class_of(w.group.weights) for w in ws}
    out: list[Key] = [("values", k) for k in VALUES if k not in (*FIXED, *b.still)]
    out += [("shared", k) for k in CLASS]
    out += [("classes", c, k) for c in CLASSES if c in seen for k in CLASS]
    for i, change in enumerate(b.changes):
        if any(change.applies(w.group.build, w.group.machine.device.family, w.group.options) for w in ws):
            out += [("changes", str(i), *k.split("/")) for k in change.fitted
                    if not k.startswith("classes") or k.split("/")[1] in seen]  # fmt: skip
    # What a backend does not have is not fitted.
    absent = [k for k, v in (("wide", 1.0), ("library", 0.0), ("unpack", 0.0)) if b.values.get(k, v) == v]
    return [k for k in out if k[:1] != ("values",) or k[1] not in absent]


def touches(key: Key, kind: str) -> bool:
    """Whether a factor acts on a class of formats. What is shared is so by all quantized formats; how fast bytes are
    read, by plain ones too."""
    return key[:2] == ("classes", kind) or key[:2] in SHARED[kind in PLAIN]


Kind = tuple[float, str, frozenset[str]]
NEWEST: Kind = (np.inf, "", frozenset())


def applied(
    start: Kit, names: list[Key], logs: Array, kind: Kind = NEWEST, most: Mapping[str, float] = MOST
) -> Kit:
    """The kit with coefficients multiplied by factors (given as logarithms), as a build, family and options have it."""
    values, classes = dict(start.values), {c: dict(v) for c, v in start.classes.items()}

    def multiply(rest: Key, factor: float) -> None:
        if rest[0] == "values":
            values[rest[1]] = min(values[rest[1]] * factor, most.get(rest[1], np.inf))
        for c, own in classes.items():
            if touches(rest, c):
                own[rest[-1]] = min(own[rest[-1]] * factor, most.get(rest[-1], np.inf))

    by: dict[str, list[tuple[Key, float]]] = {}
    for key, x in zip(names, logs, strict=True):
        place, rest = (key[1], key[2:]) if key[0] == "changes" else ("", key)
        by.setdefault(place, []).append((rest, float(np.exp(x))))
    for rest, factor in by.get("", ()):
        multiply(rest, factor)
    for i, change in enumerate(BACKENDS[start.name].changes):
        if change.applies(*kind):
            values |= change.values
            for own in classes.values():
                own["rate"] *= change.times
            for rest, factor in by.get(str(i), ()):
                multiply(rest, factor)
    return replace(start, values=values, classes=classes)


def spread(key: Key, b: Backend) -> float:
    """How far a coefficient may stray: less where it is another backend's, which the backend says nothing else of."""
    if key[0] == "changes":
        return CHANGED
    apart = key[0] == "classes" and ("shared", key[2]) in SHARED[key[1] in PLAIN]
    return CLASSWISE if apart else CARRIED if b.like and key[1] not in b.values else OWN


@dataclass(frozen=True)
class Trial:
    """Coefficients by build, family and options as factors act on them: ``base × exp(slope @ logs)``, at most ``most``.

    Attributes:
        base, most: (kinds, coefficients). ``slope``: (kinds, coefficients, factors). ``place``: the kind of each row.
    """

    start: Kit
    base: Array
    slope: Array
    most: Array
    place: NDArray[np.intp]

    def rates(self, f: Flat, logs: Array) -> Array:
        return rates(f, self.start, np.minimum(self.base * np.exp(self.slope @ logs), self.most), self.place)


def trial(f: Flat, start: Kit, names: list[Key]) -> Trial:
    """What the factors do, found by changing one after the other."""
    kinds = sorted({(float(b), str(x), o) for b, x, o in zip(f.build, f.family, f.options, strict=True)}, key=str)
    index = {k: i for i, k in enumerate(kinds)}
    place = np.asarray([index[(float(b), str(x), o)] for b, x, o in zip(f.build, f.family, f.options, strict=True)])
    none = np.zeros(len(names))
    base = np.asarray([flattened(applied(start, names, none, k, {})) for k in kinds])
    safe = np.where(base == 0.0, 1.0, base)
    slope = np.stack([np.log(np.where(base == 0.0, 1.0, [flattened(applied(start, names, one, k, {})) for k in kinds])
                             / safe) for one in np.eye(len(names))], axis=-1)  # fmt: skip
    caps = {k: MOST.get(k, np.inf) for k in (*start.values, *start.classes["f16"])}
    most = flattened(replace(start, values={k: caps[k] for k in start.values},
                             classes={c: {k: caps[k] for k in own} for c, own in start.classes.items()}))  # fmt: skip
    return Trial(start, base, slope, np.broadcast_to(most, base.shape), place)


def fitted(f: Flat, pick: NDArray[np.bool_], t: Trial, names: list[Key]) -> Array:
    """Logarithms of factors on the starting coefficients, from some of the rows."""
    pick = pick & f.sound
    if not pick.any():
        return np.zeros(len(names))
    keys_ = np.char.add(f.device.astype(str), f.phase.astype(str))
    _, index, counts = np.unique(keys_[pick], return_inverse=True, return_counts=True)
    weights = counts[index] ** -0.25
    tie = NOISE / np.asarray([spread(k, BACKENDS[t.start.name]) for k in names])

    def residuals(x: Array) -> Array:
        off = np.log(t.rates(f, x) / f.measured)[pick]
        # Absolute, not squared, beyond the noise: medians are what is judged.
        soft = np.sign(off) * np.sqrt(2.0 * (np.sqrt(1.0 + (off / NOISE) ** 2) - 1.0)) * NOISE
        return np.concatenate([weights * soft, tie * x])

    return np.asarray(least_squares(residuals, np.zeros(len(names)), max_nfev=15, diff_step=1e-4).x)


def left_out(f: Flat, t: Trial, names: list[Key]) -> Array:
    """Predicted over measured of the table's own rows, each from a fit without its device; nan of other tables' rows.
    Devices of few rows are left out several at once, since none of them moves a fit."""
    out = np.full(len(f.measured), np.nan)
    devices, counts = np.unique(f.device[f.own], return_counts=True)
    many = [[d] for d, n in zip(devices, counts, strict=True) if n >= FEW]
    few = [d for d, n in zip(devices, counts, strict=True) if n < FEW]
    for fold in [*many, *([few[::2]] if few else []), *([few[1::2]] if len(few) > 1 else [])]:
        gone = np.isin(f.device, fold)
        r = t.rates(f, fitted(f, ~gone, t, names)) / f.measured
        out[gone & f.own] = r[gone & f.own]
    return out


def interval(f: Flat, held: Array, phase: str) -> tuple[float, float]:
    """Factors on the predicted time that hold four in five of the measurements of devices left out, each device
    counted alike."""
    mine = f.own & f.sound & (f.phase == phase)
    if not mine.any():
        return 0.6, 1.7
    _, index, counts = np.unique(f.device[mine], return_inverse=True, return_counts=True)
    r, w = held[mine], counts[index] ** -0.5
    order = np.argsort(r)
    at = np.cumsum(w[order]) / w.sum()
    # Predicted over measured rate is measured over predicted time.
    low, high = (round(float(np.interp(q, at, r[order])), 3) for q in (0.1, 0.9))
    return low, high


def score(r: Array, low: Num, high: Num) -> float:
    """The mean interval score at 80 % of ratios, in log: the width, and ten times by how much it is missed."""
    x, a, b = np.log(r), np.log(low), np.log(high)
    return float(np.mean(b - a + 10.0 * (np.maximum(a - x, 0.0) + np.maximum(x - b, 0.0))))


def median(r: Array) -> float:
    return float(np.median(np.abs(r - 1.0))) if len(r) else float("nan")


def report(name: str, f: Flat, all_in: Array, held: Array) -> None:
    """Errors in the fit and with devices left out, by device."""
    for phase in ("decode", "prefill"):
        mine = f.own & (f.phase == phase)
        if not mine.any():
            continue
        each = {d: held[mine & (f.device == d)] for d in np.unique(f.device[mine])}
        low, high = interval(f, held, phase)
        inside = np.mean((held[mine] >= low) & (held[mine] <= high))
        print(f"\n{name:14s} {phase:8s} devices {len(each):3d} rows {int(mine.sum()):5d} in fit "
              f"{median(all_in[mine]):6.1%} left out {median(held[mine]):6.1%} by device "
              f"{np.median([median(r) for r in each.values()]):6.1%} in 80 % {inside:4.0%}", flush=True)  # fmt: skip
        for d, r in each.items():
            print(f"    {d:28s} n {len(r):4d} {median(r):6.1%} bias {np.median(r):5.2f}")


def together(found: list[tuple[Flat, Array]], unanswered: dict[str, int]) -> None:
    """All backends: rows, devices and models left out, coverage, and the interval score beside one width for all."""
    for phase in ("decode", "prefill"):
        pick = [f.own & (f.phase == phase) for f, _ in found]
        if not any(m.any() for m in pick):
            continue
        r, device, model = (np.concatenate([x[m] for x, m in zip(xs, pick, strict=True)]) for xs in (
            [h for _, h in found], [f.device for f, _ in found], [f.model for f, _ in found]))  # fmt: skip
        ends = [interval(f, h, phase) for f, h in found]
        low, high = (np.repeat([e[i] for e in ends], [int(m.sum()) for m in pick]) for i in (0, 1))
        errors = np.concatenate([np.abs(r - 1.0), np.ones(unanswered[phase])])
        halo = device == "ryzen-ai-max-395"
        print(f"\nall {phase}: rows {len(errors)} median {np.median(errors):.1%} ({unanswered[phase]} not answered), "
              f"without the Ryzen AI Max+ 395 {median(r[~halo]):.1%} of {int((~halo).sum())}; median of devices "
              f"{np.median([median(r[device == d]) for d in np.unique(device)]):.1%}, of models "
              f"{np.median([median(r[model == m]) for m in np.unique(model)]):.1%}; in 80 % "
              f"{np.mean((r >= low) & (r <= high)):.0%}; interval score {score(r, low, high):.2f}, one width "
              f"{score(r, *np.quantile(r, (0.1, 0.9))):.2f}")  # fmt: skip
        for m in np.unique(model):
            print(f"    {m:28s} n {int((model == m).sum()):4d} {median(r[model == m]):6.1%} bias "
                  f"{np.median(r[model == m]):5.2f}")  # fmt: skip


def file_of(
    b: Backend, start: Kit, names: list[Key], x: Array, ws: list[GroupWork], f: Flat | None, held: Array
) -> dict[str, Any]:
    """The calibration file. Coefficients are capped when it is read, after what a build changes, as in the fit."""
    now = applied(start, names, x, most={})
    seen = sorted({w.group.machine.device.name for w in ws})
    changes = [_change(now, c, [(k[2:], float(np.exp(v))) for k, v in zip(names, x, strict=True)
                                if k[:2] == ("changes", str(i))]) for i, c in enumerate(b.changes)]  # fmt: skip
    errors = {} if f is None else {
        phase: {"rows": int(mine.sum()), "left_out": round(median(held[mine]), 4)}
        for phase in ("decode", "prefill") if (mine := f.own & (f.phase == phase)).any()
    }  # fmt: skip
    return {
        "source": "edge_dev.parquet: tokens per second of llama.cpp and MLX in public benchmarks (sources in its "
                  "README), and edge_published.csv, 2026-11-30; fitted by benchmarks/fit/edge.py, intervals and errors "
                  "from devices left out",
        "engines": list(b.engines), "runs_on": b.runs_on, "devices": seen, "errors": errors,
        "intervals": {phase: [0.6, 1.7] if f is None else list(interval(f, held, phase))
                      for phase in ("decode", "prefill")},
        "peaks": dict(b.peaks), "kernels": dict(KERNELS), "most": dict(MOST),
        **({"reads": dict(b.reads)} if b.reads else {}),
        "values": {k: _short(v) for k, v in now.values.items()},
        "classes": {c: {k: _short(v) for k, v in now.classes[c].items()} for c in now.classes},
        **({"changes": changes} if changes else {}),
    }  # fmt: skip


def _change(now: Kit, change: Change, fitted_: list[tuple[Key, float]]) -> dict[str, Any]:
    """When it applies, and the factors by which coefficients differ then."""
    values: dict[str, float] = {}
    own = dict(change.values)
    classes: dict[str, dict[str, float]] = {}
    for c in now.classes if change.times != 1.0 else ():
        classes[c] = {"rate": change.times}
    for rest, factor in fitted_:
        if rest[0] == "values" and rest[1] in own:
            own[rest[1]] = _short(min(own[rest[1]] * factor, MOST.get(rest[1], np.inf)))
        elif rest[0] == "values":
            values[rest[1]] = _short(factor)
        for c in now.classes:
            if touches(rest, c):
                classes.setdefault(c, {})[rest[-1]] = _short(factor * classes.get(c, {}).get(rest[-1], 1.0))
    when = {"before": None if np.isinf(change.before) else int(change.before), "of": list(change.families),
            "with": change.option, "own": own}  # fmt: skip
    return {**{k: v for k, v in when.items() if v}, "values": values, "classes": classes}


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
            write(name, file_of(b, first(name, b), [], np.zeros(0), [], None, np.zeros(0)))
    names_ = given.only.split(",")
    everything, beside = (works(t, lambda g: any(g.engine.partition("@")[0] in BACKENDS[n].engines for n in names_))
                          for t in (table, read(PUBLISHED)))  # fmt: skip
    everything += works(table, kind=NEURAL)
    done: dict[str, Kit] = {}
    found: list[tuple[Flat, Array]] = []
    for name in names_:
        b = BACKENDS[name]
        ws, others = ([w for w in found if b.keep(w)] for found in (everything, beside))
        if not ws:
            continue
        start, names, f = first(name, b, done), keys([*ws, *others], b), flat(ws, KERNELS, b.peaks, others, b.reads)
        t = trial(f, start, names)
        x = fitted(f, np.full(len(f.measured), True), t, names)
        done[name] = applied(start, names, x)
        held = left_out(f, t, names)
        if name != "neural":
            found.append((f, held))
        report(name, f, t.rates(f, x) / f.measured, held)
        if given.write:
            write(name, file_of(b, start, names, x, [*ws, *others], f, held))
    asked_ = check(table)
    missing = {p: int((~np.isfinite(asked_.predicted[asked_.phase == p])).sum()) for p in ("decode", "prefill")}
    together(found, missing)


def write(name: str, data: Mapping[str, Any], folder: Path = FOLDER) -> None:
    text = yaml.safe_dump(dict(data), sort_keys=False, width=120, default_flow_style=None)
    text = re.sub(r"^(?=source:)", "# Written by benchmarks/fit/edge.py; do not edit by hand.\n", text, count=1)
    (folder / f"{name}.yaml").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
