"""Fit the closed loop's coefficients to recorded serving measurements, and say how far they carry.

    python benchmarks/fit/serving.py ../shared/data/serving/inferencex_dev.csv [--configs DIR] [--write] [--folds 5]

Maximum a posteriori: Cauchy losses on the log errors of TPOT and TTFT (a wrong row counts little), and normal priors
in the log that pull every coefficient to its start, and every deviation of an engine, machine, format or client to
none. Damped Gauss-Newton; deterministic. Repeats of one measurement share one weight. Errors are cross-validated by
configuration (the same model architecture, machine, engine, precision, layout, lengths and concurrency are never on
both sides), and by leaving out each engine build, machine and architecture in turn; which deviations there are was
chosen by the errors of all of these together (docs/accuracy.md).
``--write`` replaces ``src/tierwise/serving/calibration/serving.yaml``. Run it again after prices change.
"""

from __future__ import annotations

import argparse
import datetime
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tierwise.serving.coefficients import FILE, PRICED, levels, levels_of, unquantized
from tierwise.serving.predict import Priced, priced, solve
from tierwise.serving.recipes import key_of
from tierwise.serving.rows import EngineGroup, Row, read_rows
from tierwise.serving.steady import START, Steady

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.fit.serving_intervals import architecture, coverage, interval, widest, widths  # noqa: E402

Array = NDArray[np.float64]
NAMES = tuple(START)
# Standard deviations of the priors, in the log.
BASE = {"priced": 0.25, "host.poll": 0.15, "other": 0.7}
SPREAD = {"engine": 0.2, "system": 0.1, "client": 0.4, "engine+client": 0.2, "dense": 0.12, "experts": 0.12}
SIGMA = {"tpot": 0.05, "ttft": 0.18}  # what the losses call one deviation
WEIGHT = {"tpot": 1.0, "ttft": 0.35, "disaggregated": 0.3}
TAIL = 2.0  # Cauchy: squared deviations from which a row starts to count less
STEP = 0.02


@dataclass(frozen=True)
class Problem:
    """Priced rows that carry both measurements, shape (n,) each: logs of them, weights, configurations, levels."""

    p: Priced
    tpot: Array
    ttft: Array
    weight: Array
    configuration: NDArray[np.str_]
    level: dict[str, NDArray[np.str_]]


@dataclass(frozen=True)
class Fit:
    """Logarithms: ``theta`` of the parameters (coefficient, level, name)."""

    keys: list[tuple[str, str, str]]
    theta: Array

    def logs(self, level: dict[str, NDArray[np.str_]], n: int) -> Array:
        """Logs of every coefficient of n rows, shape (coefficients, n)."""
        out = np.repeat(np.log(np.asarray(list(START.values())))[:, None], n, axis=1)
        for (name, by, key), value in zip(self.keys, self.theta, strict=True):
            mask = 1.0 if by == "base" else (level[by] == key)
            out[NAMES.index(name)] += value * mask
        return np.asarray(np.clip(out, -25.0, 12.0))


def problem(rows: Sequence[Row], configs: str = "") -> Problem:
    """The rows that can be priced and were measured."""
    measured = [r for r in rows if r.tpot and r.ttft]
    p, _ = priced(measured, configs)
    tpot, ttft = np.asarray([r.tpot for r in p.rows]), np.asarray([r.ttft for r in p.rows])
    names = np.asarray([_configuration(r, m) for r, m in zip(p.rows, p.models, strict=True)])
    same: dict[tuple[str, float], int] = {}
    for key in zip(names, tpot, strict=True):
        same[key] = same.get(key, 0) + 1
    weight = np.asarray([1.0 / same[key] for key in zip(names, tpot, strict=True)])
    weight *= np.asarray([_trust(r) for r in p.rows])
    return Problem(p, np.log(tpot), np.log(ttft), weight, names, levels([key_of(r) for r in p.rows]))


def _configuration(r: Row, model: str) -> str:
    parts = (architecture(model), r.system, r.engine, r.dense.removesuffix("-block"), _named(r.decode),
             _named(r.prefill), r.isl, r.osl, r.concurrency)  # fmt: skip
    return "|".join(map(str, parts))


def _named(group: EngineGroup | None) -> str:
    """A group by its degrees; the folds follow from the order of these names."""
    if group is None:
        return "none"
    return f"of(tp={group.tp}, dp={group.dp}, ep={group.ep}, workers={group.workers})"


def _trust(r: Row) -> float:
    """0 for rows left out of fitting (never of the errors), with the reason; less than 1 for others than agg."""
    if r.prefill is not None:
        return 0.0 if r.mode == "agg" else WEIGHT["disaggregated"]  # the division of the devices is assumed
    if r.decode.workers > 1 and r.dense == "":
        return 0.0  # replicas of unstated precision: times jump threefold between neighbouring concurrencies
    if r.version == "1.3.0rc1":
        return 0.0  # 90 ms a token whatever the load: not the deployment the row describes
    if r.version == "0.12.0" and r.system == "h200_sxm":
        return 0.0  # times do not depend on the load: every expert read in every step, or a fixed wait
    return 1.0


def keys_of(level: dict[str, NDArray[np.str_]]) -> list[tuple[str, str, str]]:
    """Every parameter the rows can tell something about."""
    out = [(name, "base", "") for name in NAMES]
    for name in NAMES:
        for by in levels_of(name):
            out += [(name, by, str(key)) for key in np.unique(level[by])]
    return out


def prior(keys: list[tuple[str, str, str]]) -> Array:
    """Standard deviations, in the log."""
    out = []
    for name, by, _ in keys:
        if by == "base":
            out.append(BASE["priced"] if name in PRICED else BASE.get(name, BASE["other"]))
        else:
            wide = 2.0 if by == "engine" and name not in PRICED else 1.0
            out.append(SPREAD[by] * wide)
    return np.asarray(out)


def some(q: Problem, index: NDArray[np.intp]) -> Problem:
    """The problem of some of its rows."""
    return Problem(q.p.take(index), q.tpot[index], q.ttft[index], q.weight[index], q.configuration[index],
                   {by: names[index] for by, names in q.level.items()})  # fmt: skip


def times(q: Problem, logs: Array, near: Steady | None = None) -> tuple[Array, Array]:
    """Logs of predicted TPOT and TTFT; ``near``: a solution close by, to start from."""
    found = solve(q.p, dict(zip(NAMES, np.exp(logs), strict=True)), near)
    return np.log(found.tpot), np.log(found.ttft)


def fit(
    q: Problem, iterations: int = 30, say: Callable[[str], None] | None = None, near: Fit | None = None
) -> Fit:  # fmt: skip
    """Coefficients at the maximum of the posterior; ``near``: those of almost the same rows, to start from."""
    q = some(q, np.flatnonzero(q.weight))
    n = len(q.tpot)
    keys = keys_of(q.level)
    sd = prior(keys)
    rows = np.asarray([NAMES.index(name) for name, _, _ in keys])
    masks = np.asarray([np.ones(n) if by == "base" else (q.level[by] == key).astype(float) for _, by, key in keys])
    start = np.repeat(np.log(np.asarray(list(START.values())))[:, None], n, axis=1)

    def loss(z: Array) -> Array:
        return TAIL * np.log1p(z * z / TAIL)

    def evaluate(theta: Array) -> tuple[float, Array, Array, Array]:
        logs = start.copy()
        np.add.at(logs, rows, theta[:, None] * masks)
        logs = np.clip(logs, -25.0, 12.0)
        tpot, ttft = times(q, logs)
        a, b = (tpot - q.tpot) / SIGMA["tpot"], (ttft - q.ttft) / SIGMA["ttft"]
        total = (q.weight * (WEIGHT["tpot"] * loss(a) + WEIGHT["ttft"] * loss(b))).sum() + ((theta / sd) ** 2).sum()
        return float(total), logs, a, b

    first = dict(zip(near.keys, near.theta, strict=True)) if near else {}
    theta = np.asarray([first.get(key, 0.0) for key in keys])
    best, logs, a, b = evaluate(theta)
    damping, still = 1.0, 0
    for i in range(iterations):
        slope_a, slope_b = _slopes(q, logs, a, b)
        grad_a, grad_b = masks * slope_a[rows], masks * slope_b[rows]
        wa = q.weight * WEIGHT["tpot"] / (1.0 + a * a / TAIL)
        wb = q.weight * WEIGHT["ttft"] / (1.0 + b * b / TAIL)
        hessian = (grad_a * wa) @ grad_a.T + (grad_b * wb) @ grad_b.T + np.diag(1.0 / sd**2)
        gradient = (grad_a * wa) @ a + (grad_b * wb) @ b + theta / sd**2
        for _ in range(8):
            step = np.linalg.solve(hessian + damping * np.diag(0.1 * np.diag(hessian) + 1.0 / sd**2), -gradient)
            trial = evaluate(theta + np.clip(step, -0.4, 0.4))
            if trial[0] < best:
                break
            damping *= 4.0
        else:
            break
        gain = (best - trial[0]) / best
        theta = theta + np.clip(step, -0.4, 0.4)
        best, logs, a, b = trial
        damping = max(damping / 4.0, 1e-4)
        still = still + 1 if gain < 1e-3 else 0
        if say:
            say(f"  {i}: {best:.1f}  TPOT {_median(a * SIGMA['tpot']):.1%}  TTFT {_median(b * SIGMA['ttft']):.1%}")
        if still >= 3:
            break
    return Fit(keys, theta)


def _slopes(q: Problem, logs: Array, a: Array, b: Array) -> tuple[Array, Array]:
    """Derivatives of both errors by each coefficient's log, row by row, shape (coefficients, n)."""
    out_a, out_b = np.zeros_like(logs), np.zeros_like(logs)
    near = solve(q.p, dict(zip(NAMES, np.exp(logs), strict=True)))
    for i in range(len(NAMES)):
        moved = logs.copy()
        moved[i] += STEP
        tpot, ttft = times(q, moved, near)
        out_a[i] = ((tpot - q.tpot) / SIGMA["tpot"] - a) / STEP
        out_b[i] = ((ttft - q.ttft) / SIGMA["ttft"] - b) / STEP
    return np.clip(out_a, -60.0, 60.0), np.clip(out_b, -17.0, 17.0)


def _median(logs: Array) -> float:
    return float(np.median(np.abs(np.expm1(logs))))


def held_out(q: Problem, groups: NDArray[np.str_], near: Fit, iterations: int = 8) -> tuple[Array, Array]:
    """Logs of TPOT and TTFT of every row, predicted by a fit to the rows of other groups.

    Each starts from the fit to all rows, which saves iterations; from nothing it ends at the same errors.
    """
    tpot, ttft = np.zeros(len(q.tpot)), np.zeros(len(q.tpot))
    for group in np.unique(groups):
        test = np.flatnonzero(groups == group)
        found = fit(some(q, np.flatnonzero(groups != group)), iterations, near=near)
        there = some(q, test)
        tpot[test], ttft[test] = times(there, found.logs(there.level, len(test)))
    return tpot, ttft


def folds(q: Problem, k: int) -> NDArray[np.str_]:
    """A fold for each configuration, at random (seed 0)."""
    names = np.unique(q.configuration)
    order = np.random.default_rng(0).permutation(len(names))
    of = dict(zip(names.tolist(), (order % k).tolist(), strict=True))
    return np.asarray([str(of[str(c)]) for c in q.configuration])


def errors(log: Array, truth: Array) -> dict[str, float]:
    """Median, mean and 90th percentile of the relative error."""
    e = np.abs(np.expm1(log - truth))
    return {"median": float(np.median(e)), "mean": float(np.mean(e)), "p90": float(np.quantile(e, 0.9))}


def line(label: str, tpot: Array, ttft: Array, q: Problem, mask: NDArray[np.bool_]) -> str:
    """One row of the report."""
    if not mask.any():
        return f"{label:44s} no rows"
    a, b = errors(tpot[mask], q.tpot[mask]), errors(ttft[mask], q.ttft[mask])
    shown = "  ".join(f"{n} " + " ".join(f"{e[k]:6.1%}" for k in e) for n, e in (("TPOT", a), ("TTFT", b)))
    return f"{label:44s} {int(mask.sum()):5d}  {shown}"


def document(
    found: Fit, q: Problem, results: dict[str, tuple[Array, Array]], args: argparse.Namespace
) -> dict[str, Any]:
    """The calibration file."""
    agg = np.asarray([r.mode == "agg" for r in q.p.rows])
    one = np.asarray([r.prefill is None for r in q.p.rows])
    coefficients: dict[str, Any] = {}
    for (name, by, key), value in zip(found.keys, found.theta, strict=True):
        entry = coefficients.setdefault(name, {})
        if by == "base":
            entry["base"] = float(f"{START[name] * np.exp(value):.4g}")
        elif abs(value) > 0.01:
            entry.setdefault(by, {})[key] = float(f"{np.exp(value):.4g}")
    off = {by: (q.tpot - found[0], q.ttft - found[1]) for by, found in results.items()}
    served = q.p.take(np.flatnonzero(one))
    new = [np.concatenate([off[by][i][one] for by in ("build", "system", "model")]) for i in range(2)]
    thrice = np.tile(np.flatnonzero(one), 3)
    wide = {name: widest(q.p, thrice, new[i]) for i, name in enumerate(("tpot", "ttft"))}
    intervals: dict[str, Any] = {"calibrated": {}, "transferred": {}}
    for i, name in enumerate(("tpot", "ttft")):
        width = widths(served, wide[name])
        intervals["calibrated"][name] = interval(off["configuration"][i][one], width)
        intervals["transferred"][name] = interval(new[i], np.tile(width, 3))
    for label, mask in (("disaggregated", ~one & ~agg), ("assumed division", ~one & agg)):
        some_rows = q.p.take(np.flatnonzero(mask))
        intervals[label] = {name: interval(off["configuration"][i][mask], widths(some_rows, wide[name]))
                            for i, name in enumerate(("tpot", "ttft"))}  # fmt: skip
    return {
        "source": "serving measurements of InferenceX as sampled by AIConfigurator (Apache-2.0), "
        f"{len(q.tpot)} rows of {Path(args.data).name}; fitted by benchmarks/fit/serving.py",
        "date": args.date,
        "rows": {"agg": int(agg.sum()), "disagg": int((~agg).sum()), "left out of fitting": int((q.weight == 0).sum())},
        "errors": {
            f"held out by {by}": {
                "tpot": {k: round(v, 4) for k, v in errors(a[agg], q.tpot[agg]).items()},
                "ttft": {k: round(v, 4) for k, v in errors(b[agg], q.ttft[agg]).items()},
            }
            for by, (a, b) in results.items()
        },
        "intervals": intervals,
        "wider": wide,
        "seen": {
            "engine": sorted({r.engine for r in q.p.rows}),
            "system": sorted({r.system.lower() for r in q.p.rows}),
            "model": sorted({unquantized(m) for m in q.p.models}),
        },
        "coefficients": coefficients,
    }


def write(data: dict[str, Any], path: Path) -> None:
    """The file, a table a line."""
    import yaml

    lines = ["# Coefficients of the closed serving loop. Written by benchmarks/fit/serving.py; do not edit by hand."]
    for key, value in data.items():
        if key in ("coefficients", "intervals", "wider", "errors", "seen"):
            lines.append(f"{key}:")
            for name, entry in value.items():
                lines.append(f"  {name}:")
                items = entry.items() if isinstance(entry, dict) else [("", entry)]
                for sub, table in items:
                    flow = yaml.safe_dump(table, default_flow_style=True, width=10**6).strip().removesuffix("\n...")
                    lines.append(f"    {sub}: {flow}" if sub else f"    {flow}")
        else:
            lines.append(yaml.safe_dump({key: value}, width=100).strip())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


BY = ("build", "system", "model", "configuration")


def groups_of(q: Problem, by: str, k: int = 5) -> NDArray[np.str_]:
    """What is left out together (n,)."""
    if by == "configuration":
        return folds(q, k)
    if by == "model":
        return np.asarray([architecture(m) for m in q.p.models])
    return np.asarray([key_of(r).build if by == "build" else r.system for r in q.p.rows])


def report(q: Problem, found: Fit, by: str, k: int) -> tuple[Array, Array]:
    """Leave out each build, system, model or part of the configurations in turn, and say how far it is off."""
    names = groups_of(q, by, k)
    out = held_out(q, names, found)
    agg = np.asarray([r.mode == "agg" for r in q.p.rows])
    print(line(f"held out by {by}", *out, q, agg), flush=True)
    if by != "configuration":
        for name in np.unique(names):
            if (agg & (names == name)).any():
                print(line(f"    {name}", *out, q, agg & (names == name)))
    one = np.flatnonzero([r.prefill is None for r in q.p.rows])
    for name, off in (("TPOT", q.tpot - out[0]), ("TTFT", q.ttft - out[1])):
        c = coverage(q.p.take(one), off[one], names[one])
        print(f"    {name}: {c['covered']:.1%} in others' intervals; {c['good']:.0%} of {c['strata']:.0f} strata "
              f"have 65 to 92 % ({c['least']:.0%} to {c['most']:.0%}); score {c['score']:.3f}, of a constant width"
              f" {c['constant']:.3f}; mean log error {np.mean(off[one]):+.3f}, median {np.median(off[one]):+.3f}",
              flush=True)  # fmt: skip
    return out


def main(argv: list[str] | None = None) -> None:
    """Fit, validate, report and, when asked, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--configs", default="", help="a folder of model configs, one folder a model")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--by", action="append", choices=BY, help="what to leave out (all of them unless given)")
    parser.add_argument("--date", default=datetime.date.today().isoformat())
    args = parser.parse_args(argv)
    began = time.perf_counter()
    rows, refused = read_rows(args.data)
    q = problem(rows, args.configs)
    print(f"{len(q.tpot)} rows to fit, {len(refused)} refused ({time.perf_counter() - began:.1f} s)", file=sys.stderr)
    found = fit(q, say=lambda text: print(text, file=sys.stderr))
    full = times(q, found.logs(q.level, len(q.tpot)))
    agg = np.asarray([r.mode == "agg" for r in q.p.rows])
    print(f"{'':44s}  rows  median   mean    p90")
    print(line("fitted", *full, q, agg))
    results = {}
    for by in BY if args.write or not args.by else args.by:
        results[by] = report(q, found, by, args.folds)
    if "configuration" not in results:
        return
    print(line("disaggregated, held out by configuration", *results["configuration"], q, ~agg))
    print(f"{time.perf_counter() - began:.0f} s", file=sys.stderr)
    if args.write:
        write(document(found, q, results, args), FILE)
        print(f"written: {FILE}", file=sys.stderr)


if __name__ == "__main__":
    main()
