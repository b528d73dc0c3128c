"""What ten measurements do for a device nobody measured: ``python -m benchmarks.accuracy.few_samples [OP…]``.

Each device is predicted by coefficients fitted to the others. Then ``--samples`` of its measurements, drawn at random
from one class (an engine's kernels in one number format), set three factors on those coefficients: on the arithmetic
rate, on the bandwidths and on the latencies; the rest of the class is predicted again. Printed: the median error
before, after (mean of the draws, and the worst of them), and by the device's own calibration, which has seen all rows.
``--json OUT`` writes the numbers.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
from benchmarks.fit.common import SHARED  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from scipy.optimize import least_squares  # noqa: E402

from tierwise.cost.types import Efficiency  # noqa: E402
from tierwise.measure.ops import Table, groups, kind_of, predict, read  # noqa: E402

# Coefficients that a factor scales: rates, bandwidths, and the seconds that work of any size pays.
RATES, BANDWIDTHS = ("compute",), ("memory", "cache", "unit")
SECONDS = ("launch", "wake", "start", "step", "split", "merge", "regroup", "host", "quantize", "hidden", "lists")
# Factors are sought within e^±1 of 1 and held to it by 0.3 (what coefficients of two families differ by); a
# measurement is trusted to 0.1.
SPREAD, NOISE, LIMIT = 0.3, 0.1, 1.0
# File of measurements, and the fit that leaves devices out.
OPS = {"gemm": "gemm", "attention_prefill": "attention", "attention_decode": "attention", "moe": "moe"}
MOST = 1500  # rows of a class that are predicted


@dataclass(frozen=True)
class Line:
    """Median errors of one class of a device: before and after the samples, and calibrated on all rows."""

    op: str
    system: str
    engine: str
    dtype: str
    rows: int
    before: float
    after: float
    worst: float
    own: float


def scaled(found: Efficiency, factors: NDArray[np.float64]) -> Efficiency:
    """Every fit with its rates, bandwidths and seconds multiplied."""
    by = dict.fromkeys(RATES, factors[0]) | dict.fromkeys(BANDWIDTHS, factors[1]) | dict.fromkeys(SECONDS, factors[2])
    fits = {
        key: replace(fit, values={n: v * by.get(n, 1.0) for n, v in fit.values.items()})
        for key, fit in found.fits.items()
    }
    return replace(found, fits=fits)


def adapted(table: Table, kind: ModuleType, system: str, found: Efficiency) -> Efficiency:
    """The calibration whose three factors bring it closest to a few rows of one system."""

    def residual(x: NDArray[np.float64]) -> NDArray[np.float64]:
        p = predict(table, kind, {system: scaled(found, np.exp(x))})
        return np.concatenate([np.log(p.predicted / p.measured) / NOISE, x / SPREAD])

    best = least_squares(residual, np.zeros(3), bounds=(-LIMIT, LIMIT), loss="soft_l1", max_nfev=20)
    return scaled(found, np.exp(best.x))


def compare(
    op: str, table: Table, kind: ModuleType, without: Mapping[str, Efficiency], samples: int, draws: int
) -> list[Line]:
    """A line for each system, engine and format that ``without`` has coefficients for."""
    out = []
    for (system, engine, dtype), rows in groups(table, ("system", "engine", kind.DTYPE)).items():
        if system not in without or rows.size < 10 * samples:
            continue
        found, random = without[system], np.random.default_rng(0)
        rest = random.choice(rows, min(rows.size, MOST), replace=False)
        part = _rows(table, rest)
        own, before = (_median(part, kind, given) for given in (None, {system: found}))
        after = []
        for _ in range(draws):
            few = random.choice(rows, samples, replace=False)
            better = adapted(_rows(table, few), kind, system, found)
            after.append(_median(_rows(table, np.setdiff1d(rest, few)), kind, {system: better}))
        out.append(Line(op, system, engine, dtype, rows.size, before, float(np.mean(after)), max(after), own))
        print(out[-1], file=sys.stderr, flush=True)
    return out


def _rows(table: Table, rows: NDArray[np.intp]) -> Table:
    return {name: column[rows] for name, column in table.items()}


def _median(table: Table, kind: ModuleType, given: Mapping[str, Efficiency] | None) -> float:
    return float(np.nanmedian(predict(table, kind, given).error))


def show(lines: list[Line]) -> None:
    """The table, and the mean of the medians of each op."""
    heads = "".join(f" {name:>7}" for name in ("before", "after", "worst", "own"))
    print(f"{'op':18} {'device':10} {'engine':7} {'format':10} {'rows':>6}{heads}")
    for x in lines:
        shares = "".join(f" {100 * v:6.1f}%" for v in (x.before, x.after, x.worst, x.own))
        print(f"{x.op:18} {x.system:10} {x.engine:7} {x.dtype:10} {x.rows:6d}{shares}")
    for op in dict.fromkeys(x.op for x in lines):
        mean = [
            100 * np.mean([getattr(x, k) for x in lines if x.op == op]) for k in ("before", "after", "worst", "own")
        ]
        print(f"{op:18} {'mean of the medians':36}" + "".join(f" {v:6.1f}%" for v in mean))


def main() -> int:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("ops", nargs="*", help=f"of {', '.join(OPS)}; all unless given")
    ask.add_argument("--samples", type=int, default=10)
    ask.add_argument("--draws", type=int, default=5)
    ask.add_argument("--json", type=Path)
    args = ask.parse_args()
    unknown = [op for op in args.ops if op not in OPS]
    if unknown:
        ask.error(f"unknown op {unknown[0]!r}; allowed: {', '.join(OPS)}")
    if args.samples < 1 or args.draws < 1:
        ask.error("--samples and --draws: at least 1")
    lines: list[Line] = []
    for op in args.ops or OPS:
        path = SHARED / f"data/ops/{op}.parquet"
        if not path.is_file():
            print(f"{op}: no measurements under {SHARED.name}/data/ops", file=sys.stderr)
            continue
        table = read(path)
        fit = importlib.import_module(f"benchmarks.fit.{OPS[op]}")
        without = {str(s): fit.leave_out(str(s)) for s in np.unique(table["system"].astype(str))}
        lines += compare(op, table, kind_of(table, path.name), without, args.samples, args.draws)
    show(lines)
    if args.json:
        args.json.write_text(json.dumps([vars(x) for x in lines], indent=1))
    return 0 if lines else 1


if __name__ == "__main__":
    raise SystemExit(main())
