"""Predicted TTFT and TPOT beside recorded ones.

Every line is answered, refused with its reason, or, where the file leaves open what ran, reported apart. A file
without measurements is answered all the same: it is then a list of questions.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tierwise.serving.predict import Prediction, Priced, predict, priced
from tierwise.serving.rows import RefusedLine, ServingRow, read_rows

Array = NDArray[np.float64]
GROUPS = ("mode", "model", "system", "engine", "precision", "basis")


@dataclass(frozen=True)
class Validation:
    """Rows answered, in order, with their predictions; and those that were not."""

    priced: Priced
    prediction: Prediction
    refused: tuple[RefusedLine, ...]

    @property
    def rows(self) -> tuple[ServingRow, ...]:
        return self.priced.rows

    def errors(self, quantity: str) -> Array:
        """Relative error of each row's ``ttft`` or ``tpot``, unsigned; nan where it was not measured."""
        measured = np.asarray([getattr(r, quantity) or np.nan for r in self.rows], dtype=float)
        return np.asarray(np.abs(getattr(self.prediction, quantity) / measured - 1.0))

    def inside(self, quantity: str) -> NDArray[np.bool_]:
        """Whether each measurement lies in its prediction's interval."""
        measured = np.asarray([getattr(r, quantity) or np.nan for r in self.rows], dtype=float)
        low, high = getattr(self.prediction, quantity + "_interval").T
        value = getattr(self.prediction, quantity)
        answer: NDArray[np.bool_] = (measured >= value * low) & (measured <= value * high)
        return answer

    def group(self, by: str) -> NDArray[np.str_]:
        """What each row is, by ``mode``, ``model``, ``system``, ``engine``, ``precision`` or ``basis``."""
        if by == "basis":
            return np.asarray(self.prediction.basis, dtype=np.str_)
        if by == "precision":
            return np.asarray([r.dense or "as published" for r in self.rows], dtype=np.str_)
        return np.asarray([getattr(r, by) for r in self.rows], dtype=np.str_)


def check(path: Path, configs: str | None = None) -> Validation:
    """Predictions of a file's rows.

    Args:
        path: CSV with the columns of :mod:`tierwise.serving.rows`.
        configs: folder with a folder of ``config.json`` per model, ``org--name``, looked into before the catalog;
            ``TIERWISE_CONFIGS`` unless given.
    """
    rows, refused = read_rows(path)
    folder = os.environ.get("TIERWISE_CONFIGS", "") if configs is None else configs
    known, unknown = priced(rows, folder)
    return Validation(known, predict(known), (*refused, *unknown))


def summary(v: Validation, quantity: str, mask: NDArray[np.bool_]) -> dict[str, float] | None:
    """Median, mean and 90th percentile of the relative error, and the share inside the interval."""
    e = v.errors(quantity)[mask]
    known = np.isfinite(e)
    if not known.any():
        return None
    inside = v.inside(quantity)[mask][known]
    e = e[known]
    return {"rows": float(known.sum()), "median": float(np.median(e)), "mean": float(np.mean(e)),
            "p90": float(np.quantile(e, 0.9)), "inside": float(np.mean(inside))}  # fmt: skip


def data(path: Path, v: Validation) -> dict[str, Any]:
    """Everything, for programs: errors by group, each row's prediction, each refusal."""
    everything = np.full(len(v.rows), True)

    def errors(mask: NDArray[np.bool_]) -> dict[str, Any]:
        return {q: summary(v, q, mask) for q in ("tpot", "ttft")} if len(v.rows) else {}

    return {
        "file": path.name,
        "answered": len(v.rows),
        "errors": errors(everything),
        "by": {by: {str(n): errors(v.group(by) == n) for n in np.unique(v.group(by))} for by in GROUPS},
        "rows": [_answer(v, i) for i in range(len(v.rows))],
        "refused": [{"line": r.line, "id": r.id, "reason": r.reason, "apart": r.undetermined} for r in v.refused],
    }


def _answer(v: Validation, i: int) -> dict[str, Any]:
    row, p = v.rows[i], v.prediction
    out: dict[str, Any] = {"line": row.line, "id": row.id, "basis": p.basis[i], "notes": list(row.notes)}
    for quantity in ("ttft", "tpot"):
        value = float(getattr(p, quantity)[i])
        low, high = (float(f) * value for f in getattr(p, quantity + "_interval")[i])
        out[quantity] = {"predicted": value, "low": low, "high": high, "measured": getattr(row, quantity)}
    out["parts"] = {name: float(np.broadcast_to(values, len(v.rows))[i]) for name, values in p.parts.items()}
    return out
