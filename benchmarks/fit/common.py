"""What every fit shares: robust least squares on the log of the ratio, folds by shape, intervals, and the files.

A fit has few coefficients, each with a prior (its start, how far it may go) that holds it where data say nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from tierwise.machines.types import Device

Array = NDArray[np.float64]

CALIBRATION = Path(__file__).resolve().parents[2] / "src/tierwise/cost/calibration"
SHARED = Path(os.environ.get("TIERWISE_SHARED", Path(__file__).resolve().parents[3] / "shared"))
DATE = "2026-11-30"
# Ratios further off than this count linearly, not squared: single odd rows must not bend a fit.
ROBUST = 0.05
# Strength of the priors: a coefficient one e-fold off its prior costs as much as a 1 % error on every row.
PRIOR = 0.01


@dataclass(frozen=True)
class Free:
    """A coefficient to fit: where it starts (its prior) and its bounds, all positive."""

    start: float
    low: float
    high: float


def solve(
    predict: Callable[[Mapping[str, float]], Array],
    measured: Array,
    free: Mapping[str, Free],
    start: Mapping[str, float] | None = None,
    steps: int = 25,
) -> dict[str, float]:
    """Coefficients that bring ``predict`` closest to ``measured`` (both seconds).

    Args:
        predict: seconds of every row from coefficients by name.
        measured: seconds, same shape.
        free: what may vary.
        start: where to start instead of the priors.
        steps: most evaluations of the gradient.
    """
    names = list(free)
    prior = np.log([free[n].start for n in names])
    low, high = (np.log([getattr(free[n], side) for n in names]) for side in ("low", "high"))
    x0 = np.clip(np.log([(start or {}).get(n, free[n].start) for n in names]), low + 1e-3, high - 1e-3)
    target, pull = np.log(measured), PRIOR * np.sqrt(measured.size)

    def residual(x: Array) -> Array:
        ratio = np.log(predict(dict(zip(names, np.exp(x), strict=True)))) - target
        return np.concatenate([ratio, pull * (x - prior)])

    found = least_squares(residual, x0, loss="soft_l1", f_scale=ROBUST, max_nfev=steps, bounds=(low, high),
                          diff_step=1e-3)  # fmt: skip
    return dict(zip(names, map(float, np.exp(found.x)), strict=True))


def sample(rows: NDArray[np.intp], most: int, seed: int = 0) -> NDArray[np.intp]:
    """At most that many of the rows, the same ones every time."""
    if rows.size <= most:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))


def folds(columns: Sequence[NDArray[np.generic]], count: int) -> NDArray[np.intp]:
    """A fold number for each row; rows equal in all columns (one shape) share a fold, so none is seen in both."""
    keys = np.stack([np.asarray(c, dtype=float) for c in columns], axis=1)
    distinct, index = np.unique(keys, axis=0, return_inverse=True)
    numbers = np.random.default_rng(1).permutation(len(distinct)) % count
    return np.asarray(numbers[index.reshape(-1)], dtype=np.intp)


def errors(predicted: Array, measured: Array) -> dict[str, float]:
    """Median, mean and 90th percentile of the relative error."""
    error = np.abs(predicted / measured - 1.0)
    return {"median": float(np.median(error)), "mean": float(error.mean()), "p90": float(np.quantile(error, 0.9))}


def interval(predicted: Array, measured: Array) -> tuple[float, float]:
    """Factors on the prediction that 80 % of the measurements lie between."""
    low, high = np.quantile(measured / predicted, [0.1, 0.9])
    return float(low), float(high)


def rounded(value: object) -> object:
    """Floats to four significant digits, all the way down."""
    if isinstance(value, Mapping):
        return {str(k): rounded(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(v) for v in value]
    return float(f"{value:.4g}") if isinstance(value, (float, np.floating)) else value


def home(device: Device, op: str) -> str:
    """Where a device's classes belong: in the file of its family, or, where that is another device's, in one of its
    own."""
    import yaml

    path = CALIBRATION / device.family / f"{op}.yaml"
    held = yaml.safe_load(path.read_text()).get("devices", []) if path.is_file() else []
    return device.family if held in ([], [device.name]) else device.name


def write(name: str, op: str, data: Mapping[str, object]) -> Path:
    """``calibration/<name>/<op>.yaml``, the same bytes for the same fit."""
    import yaml

    path = CALIBRATION / name / f"{op}.yaml"
    path.parent.mkdir(exist_ok=True)
    lines = [f"# Fitted coefficients of {op}; src/tierwise/cost says what each means. Written by benchmarks/fit.\n"]
    for key, value in rounded(data).items():  # type: ignore[attr-defined]
        if key == "classes":
            lines.append("classes:\n")
            for row in value:
                text = yaml.safe_dump(row, default_flow_style=None, sort_keys=False, width=112)
                lines.append("  - " + text.replace("\n", "\n    ").rstrip() + "\n")
        else:
            text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=112)
            lines.append(f"{key}: " + text.removesuffix("...\n").rstrip().replace("\n", "\n  ") + "\n")
    path.write_text("".join(lines))
    return path
