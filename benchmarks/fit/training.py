"""Coefficients of training frameworks, fitted to recorded steps.

    python -m benchmarks.fit.training FILE... [--write] [--framework NAME] [--folds 8]

In three stages, each of its own rows, so that no coefficient answers for what another one is of:

1. of device families and of the library of collectives: :mod:`benchmarks.fit.training_families`;
2. of a framework, on its dense models: factors on attention, kernels that memory binds and collectives of layers; host
   seconds a kernel;
3. of a framework, on its models with experts: what permutes tokens for them, and host seconds a kernel in place of the
   dense models.

Three more for memory: a factor on what the backward pass keeps, bytes of buffers, bytes of a logit. All minimise the
mean of ``|log(predicted / measured)|``, in which every source has the same weight. Errors are those on rows of left-out
groups, a group being one model on one number of GPUs.
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
# Coefficients, and the rows that are asked for (all, where none are given), to predictions of those.
Predict = Callable[..., Array]
Start = Mapping[str, tuple[float, float]]

# What is fitted: where it starts, and how far from there it may end (a factor each way).
START: Mapping[str, tuple[float, float]] = {
    "attention": (1.2, 4.0),
    "memory": (2.5, 4.0),
    "link": (1.0, 3.0),
    "launch": (2e-5, 30.0),
}
# Launches of models with experts start from what those frameworks have whose dense models are slow by them (nanotron,
# Megatron of 2022).
ROUTED: Mapping[str, tuple[float, float]] = {"routed": (2.0, 6.0), "launch": (1.5e-4, 4.0)}
MEMORY: Mapping[str, tuple[float, float]] = {"saves": (1.1, 1.8), "overhead": (1.5e9, 6.0), "logits": (8.0, 2.5)}
FOLDS = 8
# A hundredth of a coefficient's room, and a hundredth of a percent of the error, are as fine as any of this is.
ENOUGH = {"xatol": 0.01, "fatol": 1e-4}
# Between which quantiles an interval lies.
ENDS = (0.1, 0.9)


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


def priced_once() -> None:
    """Keep what no coefficient changes: prices of exchanges, memory and targets, by their arguments."""
    from tierwise.training import step

    for name in ("exchange", "memory_of", "engine_on"):
        setattr(step, name, _kept(getattr(step, name)))


def _kept(function: Callable[..., Any]) -> Callable[..., Any]:
    kept: dict[tuple[Any, ...], Any] = {}

    def key(x: Any) -> Any:
        if isinstance(x, np.ndarray):
            return x.shape, x.tobytes()
        return x if isinstance(x, str | float | int) else id(x)

    def found(*args: Any, **options: Any) -> Any:
        # Layouts and machines are those of the groups of rows; plans are made anew of the same layout.
        given = [a for a in args if type(a).__name__ not in ("Plan", "TrainingFramework")]
        at = (*map(key, given), *((k, key(v)) for k, v in options.items()))
        if at not in kept:
            kept[at] = function(*args, **options), args  # Arguments are held, so that their ids stay theirs.
        return kept[at][0]

    return found


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
        error = np.abs(np.log(predict(values(z), at)[at] / m[at]))
        return float(np.average(error, weights=weight[at]) + 0.002 * np.sum(z**2))

    # Where launches matter is a valley of its own: begin on both sides of it.
    begin = np.zeros((2 if "launch" in names and room[names.index("launch")] > 3.0 else 1, len(names)))
    tries = 60 if len(names) == 1 else 300
    if len(begin) > 1:
        begin[1, names.index("launch")] = 0.55
    found = [
        minimize(loss, z, method="Nelder-Mead",
                 options={"maxfev": tries, "initial_simplex": z + _simplex(len(z)), **ENOUGH})
        for z in begin
    ]
    return values(min(found, key=lambda f: f.fun).x)


def _simplex(n: int) -> Array:
    return np.vstack([np.zeros(n), 0.4 * np.eye(n)])


def weights_of(groups: NDArray[Any], at: NDArray[np.bool_], source: NDArray[np.str_]) -> Array:
    """Each group of rows counts as the root of its rows, and each source as every other."""
    count = np.bincount(groups[at], minlength=int(groups.max()) + 1)
    each = 1.0 / np.sqrt(np.maximum(count[groups], 1))
    whole = {s: each[at & (source == s)].sum() for s in np.unique(source[at])}
    return np.asarray([w / whole.get(s, np.inf) for w, s in zip(each, source, strict=True)])


Stage = tuple[Start, NDArray[np.bool_]]


def staged(
    predict: Predict, stages: Sequence[Stage], m: Array, inside: NDArray[np.bool_], labels: NDArray[Any],
    source: NDArray[np.str_],
) -> dict[str, float]:  # fmt: skip
    """Coefficients stage by stage, each on its own rows among those ``inside``, with those of earlier ones held."""
    found: dict[str, float] = {}
    for start_at, rows in stages:
        at = inside & rows
        if at.any():
            held = dict(found)
            mine = weights_of(labels, at, source)
            found |= fit(lambda v, rows, held=held: predict({**held, **v}, rows), start_at, m, at, mine)
    return found


def held_out(
    predict: Predict, stages: Sequence[Stage], m: Array, at: NDArray[np.bool_], labels: NDArray[Any],
    source: NDArray[np.str_], folds: int = FOLDS,
) -> Array:  # fmt: skip
    """Predictions for rows of left-out groups."""
    out = np.full(len(m), np.nan)
    present = np.unique(labels[at])
    fold = {g: i % folds for i, g in enumerate(np.random.default_rng(0).permutation(present))}
    mine = np.asarray([fold.get(g, -1) for g in labels])
    for k in range(min(folds, len(present))):
        inside = at & (mine != k)
        if inside.any():
            p = predict(staged(predict, stages, m, inside, labels, source))
            out[at & (mine == k)] = p[at & (mine == k)]
    return out


def main(argv: Sequence[str]) -> None:
    p = argparse.ArgumentParser()
    p.add_argument("files", nargs="+", type=Path)
    p.add_argument("--framework", default="")
    p.add_argument("--write", action="store_true")
    p.add_argument("--folds", type=int, default=FOLDS)
    a = p.parse_args(argv)
    priced_once()
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

    def predict(v: Mapping[str, float], rows: NDArray[np.bool_] | None = None) -> Array:
        asked = groups if rows is None else [g for g in groups if rows[g.rows].any()]
        if what == "time":
            return predicted(asked, len(t), lambda f: changed(f, v))
        return remembered(asked, stage, lambda f: changed(f, v))

    stages: list[Stage] = [(start_at, at)]
    routed = _routed(t)
    if what == "time":
        # Many small products are what the host is slow for: where experts were recorded, they say how slow.
        first = {k: v for k, v in start_at.items() if k not in ROUTED or not routed[at].any()}
        stages = [(first, ~routed & _certain(t)), (ROUTED, routed & _certain(t))]
    values = staged(predict, stages, m, at, labels, source)
    inside = predict(values)
    outside = held_out(predict, stages, m, at, labels, source, folds) if folds else inside
    print(name, what, {k: float(f"{v:.4g}") for k, v in values.items()})
    for s, with_ in sorted({(x, y) for x, y in zip(source[at], routed[at], strict=True)}):
        k = at & (source == s) & (routed == with_)
        told = _errors(inside[k] / m[k]), _errors(outside[k] / m[k])
        drawn = _bootstrapped(np.abs(outside[k] / m[k] - 1.0), labels[k])
        print(f"  {s:24}{' experts' if with_ else '':8} n={k.sum():4}  in the fit {told[0]}   held out {told[1]}"
              f" bounds {drawn}", flush=True)  # fmt: skip
    found.setdefault(name, {}).update(values)
    taken = at & np.logical_or.reduce([rows for _, rows in stages])
    kinds = {what: taken & ~routed, f"{what} with experts": taken & routed} if what == "time" else {what: taken}
    for kind, rows in kinds.items():
        if rows.any():
            low, high, told = _interval(m[rows] / outside[rows], labels[rows])
            print(f"  interval of {kind}: {low:.3g} to {high:.3g}; {told}", flush=True)
            bounds.setdefault(name, {})[kind] = (low, high, int(rows.sum()))


def _interval(ratio: Array, labels: NDArray[Any]) -> tuple[float, float, str]:
    """The ends of a group that nobody has seen: quantiles around the median, as much wider as it takes for four in five
    ratios of each group to lie between those of the other groups.

    What it is worth is its width plus, for each miss, how far off times 2 over the share outside (Gneiting and Raftery
    2007, 6.2), of logarithms.
    """
    z = np.log(ratio)
    said = np.empty((len(z), 2))
    for wider in np.arange(1.0, 6.0, 0.05):
        for own in (labels == g for g in np.unique(labels)):
            said[own] = _ends(z[~own] if (~own).any() else z, wider)
        covered = np.mean((said[:, 0] <= z) & (z <= said[:, 1]))
        if covered >= ENDS[1] - ENDS[0]:
            break
    low, high = np.exp(_ends(z, wider))
    told = f"{wider:.2f} times as wide; {covered:.0%} inside, score {np.mean(_score(z, said)):.3f}"
    return float(low), float(high), told


def _ends(z: Array, wider: float) -> Array:
    middle = np.median(z)
    return np.asarray(middle + wider * (np.quantile(z, ENDS) - middle))


def _score(z: Array, said: Array) -> Array:
    low, high = said[:, 0], said[:, 1]
    missed = np.maximum(low - z, 0.0) + np.maximum(z - high, 0.0)
    return np.asarray(high - low + missed * 2.0 / (1.0 - (ENDS[1] - ENDS[0])))


def _certain(t: TrainingRows) -> NDArray[np.bool_]:
    """Rows that say one precision; the others are predicted, and fit nothing."""
    return np.asarray(["mixed" not in str(x) for x in t.columns.get("precision", np.full(len(t), ""))])


def _routed(t: TrainingRows) -> NDArray[np.bool_]:
    """Rows of models with experts."""
    return np.asarray([float(x or 0) > 1 for x in t.columns.get("experts", np.zeros(len(t)))])


def _errors(ratio: Array) -> str:
    e = np.abs(ratio - 1.0)
    return f"median {np.median(e):.1%} mean {np.mean(e):.1%} bias {np.exp(np.median(np.log(ratio))):.3f}"


def _bootstrapped(error: Array, labels: NDArray[Any], draws: int = 1000) -> str:
    """Median and mean error between which nine in ten draws of whole groups lie."""
    of = [error[labels == g] for g in np.unique(labels)]
    rng = np.random.default_rng(0)
    drawn = [np.concatenate([of[i] for i in rng.integers(len(of), size=len(of))]) for _ in range(draws)]
    ends = [np.quantile([f(d) for d in drawn], (0.05, 0.95)) for f in (np.median, np.mean)]
    return ", ".join(f"{a:.1%}-{b:.1%}" for a, b in ends)


def _write(name: str, found: Mapping[str, float], bounds: Mapping[str, tuple[float, float, int]]) -> None:
    import datetime

    import yaml

    path = FOLDER / f"{name}.yaml"
    data = yaml.safe_load(path.read_text()) or {}
    rounded = {k: float(f"{v:.4g}") for k, v in found.items()}
    if "logits" in rounded:
        data.setdefault("recipe", {})["logits"] = rounded.pop("logits")
    data.update(rounded)
    for what, key in (("time", "interval"), ("time with experts", "routed_interval"), ("memory", "memory_interval")):
        if what in bounds:
            data[key] = [float(f"{x:.3g}") for x in bounds[what][:2]]
    rows = " and ".join(f"the {what} of {n} runs" for what, (_, _, n) in bounds.items())
    data["source"] = f"fitted to {rows}, {datetime.date.today()} (benchmarks/fit/training.py); intervals held out"
    path.write_text(yaml.safe_dump(data, sort_keys=False))


if __name__ == "__main__":
    main(sys.argv[1:])
