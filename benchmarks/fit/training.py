"""Coefficients of training frameworks, fitted to recorded steps.

    python -m benchmarks.fit.training FILE... [--write] [--framework NAME] [--folds 8]

Six a framework for time (seven where products in fewer bits were recorded): factors on matrix products, attention,
kernels that memory binds and collectives of layers; the share of data-parallel traffic that nothing hides; host seconds
a kernel. Three for memory: a factor on what the backward pass keeps, bytes of buffers, bytes of a logit. They minimise
the mean of ``|log(predicted / measured)|``.
Errors are those on rows of left-out groups, a group being one model on one number of GPUs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tierwise.measure.training import TrainingGroup, TrainingRows, measured, measured_memory, read, table
from tierwise.training.recipe import FOLDER, TrainingFramework

Array = NDArray[np.float64]
Predict = Callable[[Mapping[str, float]], Array]
Start = Mapping[str, tuple[float, float]]

# What is fitted: where it starts, and how far from there it may end (a factor each way).
START: Mapping[str, tuple[float, float]] = {
    # No framework multiplies faster than the kernels do by themselves.
    "matmul": (1.25, 1.25),
    "low": (0.9, 1.3),
    "attention": (1.2, 4.0),
    "memory": (2.5, 4.0),
    "link": (1.0, 3.0),
    "exposed": (0.3, 3.3),
    "launch": (2e-5, 30.0),
}
MEMORY: Mapping[str, tuple[float, float]] = {"saves": (1.1, 1.8), "overhead": (1.5e9, 6.0), "logits": (8.0, 2.5)}
FOLDS = 8


def rows_of(paths: Sequence[Path]) -> list[dict[str, Any]]:
    return [row for path in paths for row in read(path)]


def usable(t: TrainingRows, m: Array) -> NDArray[np.bool_]:
    """Rows that say how long a step took, of primary sources whose numbers agree with each other."""
    trust = t.columns.get("trust", np.full(len(t), "A", dtype=object))
    return np.isfinite(m) & np.asarray([x in ("A", None) for x in trust])


def groups_of(t: TrainingRows) -> NDArray[Any]:
    """A number for each row: one model on one number of GPUs of one kind."""
    names = [
        t.columns.get(c, np.full(len(t), None, dtype=object)) for c in ("model", "hidden", "layers", "n_gpus", "gpu")
    ]
    keys = [repr(x) for x in zip(*names, strict=True)]
    index = {k: i for i, k in enumerate(dict.fromkeys(keys))}
    return np.asarray([index[k] for k in keys])


def predicted(
    groups: Sequence[TrainingGroup], n: int, with_: Callable[[TrainingFramework], TrainingFramework] = lambda f: f
) -> Array:
    out = np.full(n, np.nan)
    for g in groups:
        out[g.rows] = np.broadcast_to(g.step(with_(g.how)).time, len(g.rows))
    return out


def remembered(
    groups: Sequence[TrainingGroup],
    stage: NDArray[np.str_],
    with_: Callable[[TrainingFramework], TrainingFramework] = lambda f: f,
) -> Array:
    """Bytes at the peak of every row."""
    out = np.full(len(stage), np.nan)
    for g in groups:
        out[g.rows] = g.peak(stage[g.rows], with_(g.how))
    return out


def changed(how: TrainingFramework, values: Mapping[str, float]) -> TrainingFramework:
    """A framework with other coefficients, those of its recipe included."""
    own = {k: v for k, v in values.items() if k != "logits"}
    recipe = replace(how.recipe, logits=values["logits"]) if "logits" in values else how.recipe
    return replace(how, recipe=recipe, **own)  # type: ignore[arg-type]


def fit(predict: Predict, start_at: Start, m: Array, at: NDArray[np.bool_], weight: Array) -> dict[str, float]:
    """The coefficients of one framework on some rows."""
    from scipy.optimize import minimize

    names = list(start_at)
    start = np.log([start_at[n][0] for n in names])
    room = np.log([start_at[n][1] for n in names])

    def values(z: Array) -> dict[str, float]:
        return {n: float(v) for n, v in zip(names, np.exp(start + room * np.tanh(z)), strict=True)}

    def loss(z: Array) -> float:
        error = np.abs(np.log(predict(values(z))[at] / m[at]))
        return float(np.average(error, weights=weight[at]) + 0.002 * np.sum(z**2))

    # Where launches matter is a valley of its own: begin on both sides of it.
    begin = np.zeros((2 if "launch" in names else 1, len(names)))
    if "launch" in names:
        begin[1, names.index("launch")] = 0.55
    found = [
        minimize(loss, z, method="Nelder-Mead", options={"maxfev": 350, "initial_simplex": z + _simplex(len(z))})
        for z in begin
    ]
    return values(min(found, key=lambda f: f.fun).x)


def _simplex(n: int) -> Array:
    return np.vstack([np.zeros(n), 0.4 * np.eye(n)])


def weights_of(groups: NDArray[Any], at: NDArray[np.bool_]) -> Array:
    """Each group of rows counts as the root of its rows."""
    count = np.bincount(groups[at], minlength=int(groups.max()) + 1)
    return 1.0 / np.sqrt(np.maximum(count[groups], 1))


def held_out(
    predict: Predict, start_at: Start, m: Array, at: NDArray[np.bool_], labels: NDArray[Any], folds: int = FOLDS
) -> Array:
    """Predictions for rows of left-out groups."""
    out = np.full(len(m), np.nan)
    present = np.unique(labels[at])
    fold = {g: i % folds for i, g in enumerate(np.random.default_rng(0).permutation(present))}
    mine = np.asarray([fold.get(g, -1) for g in labels])
    for k in range(min(folds, len(present))):
        inside = at & (mine != k)
        if inside.any():
            p = predict(fit(predict, start_at, m, inside, weights_of(labels, inside)))
            out[at & (mine == k)] = p[at & (mine == k)]
    return out


def main(argv: Sequence[str]) -> None:
    p = argparse.ArgumentParser()
    p.add_argument("files", nargs="+", type=Path)
    p.add_argument("--framework", default="")
    p.add_argument("--write", action="store_true")
    p.add_argument("--folds", type=int, default=FOLDS)
    a = p.parse_args(argv)
    rows = rows_of(a.files)
    found: dict[str, dict[str, float]] = {}
    bounds: dict[str, dict[str, tuple[float, float, int]]] = {}
    for what, start_at in (("time", START), ("memory", MEMORY)):
        whole = table(rows)
        usable_ = usable(whole, measured(whole)) if what == "time" else np.isfinite(measured_memory(whole)[0])
        t = table([r for r, ok in zip(rows, usable_, strict=True) if ok])
        for name in sorted({g.how.name for g in t.groups}):
            if a.framework in ("", name):
                _one(t, name, what, start_at, a.folds, found, bounds)
    for name in found if a.write else ():
        _write(name, found[name], bounds[name])


def _one(
    t: TrainingRows,
    name: str,
    what: str,
    start_at: Start,
    folds: int,
    found: dict[str, dict[str, float]],
    bounds: dict[str, dict[str, tuple[float, float, int]]],
) -> None:
    """Fit what one framework's rows say of time or memory, and print how far it carries."""
    groups = [g for g in t.groups if g.how.name == name]
    memory, stage = measured_memory(t)
    m, labels = measured(t) if what == "time" else memory, groups_of(t)
    source = np.asarray([str(x) for x in t.columns.get("source", np.full(len(t), "vtrain", dtype=object))])
    at = np.zeros(len(t), dtype=bool)
    for g in groups:
        at[g.rows] = True
    if at.sum() < 20:
        return

    def predict(v: Mapping[str, float]) -> Array:
        if what == "time":
            return predicted(groups, len(t), lambda f: changed(f, v))
        return remembered(groups, stage, lambda f: changed(f, v))

    if not any(g.how.recipe.low for g in groups):
        start_at = {k: v for k, v in start_at.items() if k != "low"}
    values = fit(predict, start_at, m, at, weights_of(labels, at))
    inside = predict(values)
    outside = held_out(predict, start_at, m, at, labels, folds) if folds else inside
    print(name, what, {k: float(f"{v:.4g}") for k, v in values.items()})
    for s in sorted(set(source[at])):
        k = at & (source == s)
        print(
            f"  {s:24} n={k.sum():4}  in the fit {_errors(inside[k] / m[k])}   held out {_errors(outside[k] / m[k])}",
            flush=True,
        )
    found.setdefault(name, {}).update(values)
    low, high = np.quantile(m[at] / outside[at], (0.1, 0.9))
    bounds.setdefault(name, {})[what] = (float(low), float(high), int(at.sum()))


def _errors(ratio: Array) -> str:
    e = np.abs(ratio - 1.0)
    return f"median {np.median(e):.1%} mean {np.mean(e):.1%} bias {np.exp(np.median(np.log(ratio))):.3f}"


def _write(name: str, found: Mapping[str, float], bounds: Mapping[str, tuple[float, float, int]]) -> None:
    import datetime

    import yaml

    path = FOLDER / f"{name}.yaml"
    data = yaml.safe_load(path.read_text()) or {}
    rounded = {k: float(f"{v:.4g}") for k, v in found.items()}
    if "logits" in rounded:
        data.setdefault("recipe", {})["logits"] = rounded.pop("logits")
    data.update(rounded)
    for what, key in (("time", "interval"), ("memory", "memory_interval")):
        if what in bounds:
            data[key] = [float(f"{x:.3g}") for x in bounds[what][:2]]
    rows = " and ".join(f"the {what} of {n} runs" for what, (_, _, n) in bounds.items())
    data["source"] = f"fitted to {rows}, {datetime.date.today()} (benchmarks/fit/training.py); intervals held out"
    path.write_text(yaml.safe_dump(data, sort_keys=False))


if __name__ == "__main__":
    main(sys.argv[1:])
