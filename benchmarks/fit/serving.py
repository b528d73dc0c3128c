"""Fit what steps of engines take beyond their ops, and the closed loop's coefficients, to recorded serving runs.

    python benchmarks/fit/serving.py ../shared/data/serving/inferencex_dev.csv [--configs DIR] [--write] [--folds 5]

Maximum a posteriori: Cauchy losses on the log errors of TPOT and TTFT (a wrong row counts little), and normal priors
in the log that pull every coefficient to its start, and every deviation of an engine, family of devices, system or
client to none. Ops have no base: they are expected to take what they took when they were measured alone, and a family
of devices that nobody served on keeps that. Damped Gauss-Newton; deterministic. Repeats of one measurement share one
weight. Errors are cross-validated by configuration (the same model architecture, machine, engine, precision, layout,
lengths and concurrency are never on both sides), and by leaving out each engine build, machine and architecture in
turn; which deviations there are was chosen by the errors of builds left out (docs/accuracy.md).
``--write`` replaces ``src/tierwise/steps/corrections.yaml`` and ``src/tierwise/serving/calibration/serving.yaml``. Run
it again after prices change.
"""

from __future__ import annotations

import argparse
import datetime
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tierwise.serving.coefficients import FILE, levels, levels_of
from tierwise.serving.predict import Priced, priced, solve
from tierwise.serving.recipes import key_of
from tierwise.serving.rows import EngineGroup, ServingRow, read_rows
from tierwise.serving.steady import START, Steady
from tierwise.steps.corrections import FILE as CORRECTIONS

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.fit.serving_file import documents, write  # noqa: E402
from benchmarks.fit.serving_intervals import architecture, coverage, errors  # noqa: E402

Array = NDArray[np.float64]
NAMES = tuple(START)
# Standard deviations of the priors, in the log.
BASE = {"host.poll": 0.15, "other": 0.7}
SPREAD = {"engine": 0.4, "family": 0.1, "system": 0.1, "client": 0.4, "engine+client": 0.2}
# Of the factor on ops: how well prices of ops carry over to engines and devices (docs/accuracy.md).
OPS = {"engine": 0.05, "family": 0.15, "system": 0.05}
# What is of no base: it starts at one, and only its deviations are fitted.
FIXED = ("ops", "client.request")
SIGMA = {"tpot": 0.05, "ttft": 0.18}  # what the losses call one deviation
WEIGHT = {"tpot": 1.0, "ttft": 0.8, "disaggregated": 0.3}
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
            out[NAMES.index(name)] += value * belongs(level, by, key, n)
        return np.asarray(np.clip(out, -25.0, 12.0))


def problem(rows: Sequence[ServingRow], configs: str = "") -> Problem:
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
    keys = p.keys
    level = {**levels(keys), "build": np.asarray([key.build for key in keys])}
    return Problem(p, np.log(tpot), np.log(ttft), weight, names, level)


def _configuration(r: ServingRow, model: str) -> str:
    parts = (architecture(model), r.system, r.engine, r.dense.removesuffix("-block"), _named(r.decode),
             _named(r.prefill), r.isl, r.osl, r.concurrency)  # fmt: skip
    return "|".join(map(str, parts))


def _named(group: EngineGroup | None) -> str:
    """A group by its degrees; the folds follow from the order of these names."""
    if group is None:
        return "none"
    return f"of(tp={group.tp}, dp={group.dp}, ep={group.ep}, workers={group.workers})"


def _trust(r: ServingRow) -> float:
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
    out = [(name, "base", "") for name in NAMES if name not in FIXED]
    for name in NAMES:
        for by in levels_of(name):
            out += [(name, by, str(key)) for key in np.unique(level[by])]
    return out


def belongs(level: dict[str, NDArray[np.str_]], by: str, key: str, n: int) -> Array:
    """1 for each row that a parameter is of, else 0 (n,)."""
    return np.ones(n) if by == "base" else (level[by] == key).astype(float)


def prior(keys: list[tuple[str, str, str]]) -> Array:
    """Standard deviations, in the log."""
    out = []
    for name, by, _ in keys:
        if by == "base":
            out.append(BASE.get(name, BASE["other"]))
        else:
            out.append((OPS if name == "ops" else SPREAD)[by])
    return np.asarray(out)


def some(q: Problem, index: NDArray[np.intp]) -> Problem:
    """The problem of some of its rows."""
    return Problem(q.p.take(index), q.tpot[index], q.ttft[index], q.weight[index], q.configuration[index],
                   {by: names[index] for by, names in q.level.items()})  # fmt: skip


def times(q: Problem, logs: Array, near: Steady | None = None) -> tuple[Array, Array]:
    """Logs of predicted TPOT and TTFT; ``near``: a solution close by, to start from."""
    found = solve(q.p, dict(zip(NAMES, np.exp(logs), strict=True)), near)
    return np.log(found.tpot), np.log(found.ttft)


def fit(q: Problem, iterations: int = 30, say: Callable[[str], None] | None = None) -> Fit:
    """Coefficients at the maximum of the posterior: first of engines that do both, then, with those, what
    disaggregation adds (``apart.*``)."""
    q = some(q, np.flatnonzero(q.weight))
    keys = keys_of(q.level)
    theta = np.zeros(len(keys))
    apart = np.asarray([name.startswith("apart.") for name, _, _ in keys])
    two = np.asarray([r.prefill is not None for r in q.p.rows])
    for rows, free in ((~two, ~apart), (two, apart)):
        if rows.any():
            theta = _climb(some(q, np.flatnonzero(rows)), keys, theta, np.flatnonzero(free), iterations, say)
    return Fit(keys, theta)


def _climb(
    q: Problem, keys: list[tuple[str, str, str]], theta: Array, free: NDArray[np.intp], iterations: int,
    say: Callable[[str], None] | None,
) -> Array:  # fmt: skip
    """Damped Gauss-Newton steps of the ``free`` parameters."""
    n = len(q.tpot)
    sd = prior(keys)[free]
    rows = np.asarray([NAMES.index(name) for name, _, _ in keys])
    masks = np.asarray([belongs(q.level, by, key, n) for _, by, key in keys])
    start = np.repeat(np.log(np.asarray(list(START.values())))[:, None], n, axis=1)
    moving = np.unique(rows[free])

    def loss(z: Array) -> Array:
        return TAIL * np.log1p(z * z / TAIL)

    def evaluate(theta: Array) -> tuple[float, Array, Array, Array]:
        logs = start.copy()
        np.add.at(logs, rows, theta[:, None] * masks)
        logs = np.clip(logs, -25.0, 12.0)
        tpot, ttft = times(q, logs)
        a, b = (tpot - q.tpot) / SIGMA["tpot"], (ttft - q.ttft) / SIGMA["ttft"]
        total = (q.weight * (WEIGHT["tpot"] * loss(a) + WEIGHT["ttft"] * loss(b))).sum()
        return float(total + ((theta[free] / sd) ** 2).sum()), logs, a, b

    best, logs, a, b = evaluate(theta)
    damping, still = 1.0, 0
    for i in range(iterations):
        slope_a, slope_b = _slopes(q, logs, moving)
        grad_a, grad_b = masks[free] * slope_a[rows[free]], masks[free] * slope_b[rows[free]]
        wa = q.weight * WEIGHT["tpot"] / (1.0 + a * a / TAIL)
        wb = q.weight * WEIGHT["ttft"] / (1.0 + b * b / TAIL)
        hessian = (grad_a * wa) @ grad_a.T + (grad_b * wb) @ grad_b.T + np.diag(1.0 / sd**2)
        gradient = (grad_a * wa) @ a + (grad_b * wb) @ b + theta[free] / sd**2
        for _ in range(8):
            step = np.linalg.solve(hessian + damping * np.diag(0.1 * np.diag(hessian) + 1.0 / sd**2), -gradient)
            moved = theta.copy()
            moved[free] += np.clip(step, -0.4, 0.4)
            trial = evaluate(moved)
            if trial[0] < best:
                break
            damping *= 4.0
        else:
            break
        gain = (best - trial[0]) / best
        theta = moved
        best, logs, a, b = trial
        damping = max(damping / 4.0, 1e-4)
        still = still + 1 if gain < 1e-3 else 0
        if say:
            say(f"  {i}: {best:.1f}  TPOT {_median(a * SIGMA['tpot']):.1%}  TTFT {_median(b * SIGMA['ttft']):.1%}")
        if still >= 3:
            break
    return theta


def _slopes(q: Problem, logs: Array, moving: NDArray[np.intp]) -> tuple[Array, Array]:
    """Derivatives of both errors by each moving coefficient's log, row by row, shape (coefficients, n)."""
    out_a, out_b = np.zeros_like(logs), np.zeros_like(logs)
    near = solve(q.p, dict(zip(NAMES, np.exp(logs), strict=True)))
    # A few more rounds of the fixed point change it a little by themselves: both ends of a difference have them.
    here = times(q, logs, near)
    for i in moving:
        moved = logs.copy()
        moved[i] += STEP
        tpot, ttft = times(q, moved, near)
        out_a[i] = (tpot - here[0]) / SIGMA["tpot"] / STEP
        out_b[i] = (ttft - here[1]) / SIGMA["ttft"] / STEP
    return np.clip(out_a, -60.0, 60.0), np.clip(out_b, -17.0, 17.0)


def _median(logs: Array) -> float:
    return float(np.median(np.abs(np.expm1(logs))))


def held_out(q: Problem, groups: NDArray[np.str_], iterations: int = 25) -> tuple[Array, Array]:
    """Logs of TPOT and TTFT of every row, predicted by a fit to the rows of other groups, from nothing."""
    tpot, ttft = np.zeros(len(q.tpot)), np.zeros(len(q.tpot))
    for group in np.unique(groups):
        test = np.flatnonzero(groups == group)
        found = fit(some(q, np.flatnonzero(groups != group)), iterations)
        there = some(q, test)
        tpot[test], ttft[test] = times(there, found.logs(there.level, len(test)))
    return tpot, ttft


def folds(q: Problem, k: int) -> NDArray[np.str_]:
    """A fold for each configuration, at random (seed 0)."""
    names = np.unique(q.configuration)
    order = np.random.default_rng(0).permutation(len(names))
    of = dict(zip(names.tolist(), (order % k).tolist(), strict=True))
    return np.asarray([str(of[str(c)]) for c in q.configuration])


def line(label: str, tpot: Array, ttft: Array, q: Problem, mask: NDArray[np.bool_]) -> str:
    """One row of the report."""
    if not mask.any():
        return f"{label:44s} no rows"
    a, b = errors(tpot[mask], q.tpot[mask]), errors(ttft[mask], q.ttft[mask])
    shown = "  ".join(f"{n} " + " ".join(f"{e[k]:6.1%}" for k in e) for n, e in (("TPOT", a), ("TTFT", b)))
    return f"{label:44s} {int(mask.sum()):5d}  {shown}"


BY = ("build", "system", "model", "configuration")


def groups_of(q: Problem, by: str, k: int = 5) -> NDArray[np.str_]:
    """What is left out together (n,)."""
    if by == "configuration":
        return folds(q, k)
    if by == "model":
        return np.asarray([architecture(m) for m in q.p.models])
    return np.asarray([key_of(r).build if by == "build" else r.system for r in q.p.rows])


def report(q: Problem, by: str, k: int) -> tuple[Array, Array]:
    """Leave out each build, system, model or part of the configurations in turn, and say how far it is off."""
    names = groups_of(q, by, k)
    one = np.asarray([r.prefill is None for r in q.p.rows])
    out = np.zeros(len(q.tpot)), np.zeros(len(q.tpot))
    # Disaggregated rows are left out by configuration alone.
    rows = np.flatnonzero(one | (by == "configuration"))
    out[0][rows], out[1][rows] = held_out(some(q, rows), names[rows])
    agg = np.asarray([r.mode == "agg" for r in q.p.rows]) & (one | (by == "configuration"))
    print(line(f"held out by {by}", *out, q, agg), flush=True)
    if by != "configuration":
        for name in np.unique(names):
            if (agg & (names == name)).any():
                print(line(f"    {name}", *out, q, agg & (names == name)))
    one = np.flatnonzero(one)
    for name, off in (("TPOT", q.tpot - out[0]), ("TTFT", q.ttft - out[1])):
        c = coverage(q.p.take(one), off[one], names[one], by == "configuration")
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
        results[by] = report(q, by, args.folds)
    if "configuration" not in results:
        return
    print(line("disaggregated, held out by configuration", *results["configuration"], q, ~agg))
    print(f"{time.perf_counter() - began:.0f} s", file=sys.stderr)
    if args.write:
        steps, loop = documents(found, q, results, args)
        write(steps, CORRECTIONS, "What steps of engines take beyond their ops, and requests around them.")
        write(loop, FILE, "Coefficients of the closed serving loop.")
        print(f"written: {CORRECTIONS}, {FILE}", file=sys.stderr)


if __name__ == "__main__":
    main()
