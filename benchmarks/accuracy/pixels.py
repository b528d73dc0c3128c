"""How far predictions of vision models are from published rates: ``python -m benchmarks.accuracy.pixels``.

Inference of models with a graph (or in the catalog) on NVIDIA GPUs under PyTorch, eager and compiled. Each row is
predicted by coefficients fitted without its family of models, and without its GPU; beside it, on the same rows and with
the same rows left out, a fit of two numbers to each GPU and framework: seconds a multiply-add and seconds an activation
(of the other GPU's, scaled by arithmetic and bandwidth, where a GPU is left out). ``--json OUT`` writes the numbers.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
from benchmarks.fit.common import SHARED, Array, errors  # noqa: E402
from benchmarks.fit.pixels import Rows, development, fit, held_out  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from scipy.optimize import nnls  # noqa: E402

from tierwise.machines import system  # noqa: E402
from tierwise.measure.ops import read  # noqa: E402


def main() -> int:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--json", type=Path)
    args = ask.parse_args()
    data = development()
    work = counts(data)
    found = {"in the fit": {"rows": len(data.measured)} | errors(data.predict(fit(data)), data.measured)}
    for column, name in (("family", "family left out"), ("machine", "GPU left out")):
        ours, two = held_out(data, column), two_numbers(data, work, column)
        found[name] = errors(ours, data.measured)
        found[f"{name}, two numbers"] = errors(two, data.measured)
        for value in np.unique(data.columns[column]):
            rows = data.columns[column] == value
            each = {who: errors(p[rows], data.measured[rows])["median"] for who, p in (("ours", ours), ("two", two))}
            found[f"{name}: {value}"] = {"rows": int(rows.sum())} | each
    for name, numbers in found.items():
        print(f"{name:40}", "  ".join(f"{k} {v:.3g}" for k, v in numbers.items()))
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


def counts(data: Rows) -> Array:
    """(rows, 2): multiply-adds and activations of a batch, as the file counts them."""
    table = read(SHARED / "data/pixels/vision_dev.parquet")
    each = np.stack([np.asarray(table[c], dtype=float)[data.at] for c in ("gmacs", "macts_M")], axis=1)
    return np.asarray(each * np.asarray(table["batch"], dtype=float)[data.at, None])


def two_numbers(data: Rows, work: Array, column: str) -> Array:
    """Predictions of each row from two numbers, fitted to rows of its software whose value of a column is another."""
    out = np.full(data.measured.shape, np.nan)
    values = data.columns[column]
    software = np.char.add(np.char.add(data.columns["compiler"], data.columns["layout"]), "")
    if column != "machine":
        software = np.char.add(software, data.columns["machine"])
    scaled = work / np.stack([peaks(m) for m in data.columns["machine"]])
    for value in np.unique(values):
        for kind in np.unique(software):
            mine = (values == value) & (software == kind)
            others = (values != value) & (software == kind)
            if not np.any(others):  # software seen on one GPU only: what eager code takes there
                others = (values != value) & (data.columns["compiler"] == "eager")
            if np.any(mine):
                out[mine] = scaled[mine] @ relative(scaled[others], data.measured[others])
    return out


def relative(work: Array, measured: Array) -> Array:
    """Two numbers of zero or more with the least sum of squared relative errors."""
    return np.asarray(nnls(work / measured[:, None], np.ones(len(measured)))[0])


def peaks(machine: str) -> NDArray[np.float64]:
    device = system(machine).device
    rate = max(float(e.rates["fp16"]) for e in device.engines if "fp16" in e.rates)  # type: ignore[arg-type]
    return np.asarray([rate, float(device.memory.bandwidth)])  # type: ignore[arg-type]


if __name__ == "__main__":
    raise SystemExit(main())
