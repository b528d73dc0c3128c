"""``tierwise validate serving FILE.csv``: predicted TTFT and TPOT beside recorded ones.

Every line is answered, refused with its reason, or, where the file leaves open what ran, reported apart. A file
without measurements is answered all the same: it is then a list of questions.
"""

from __future__ import annotations

import json as _json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tierwise.core.errors import TierwiseError
from tierwise.serving.predict import Prediction, Priced, predict, priced
from tierwise.serving.rows import Refused, Row, read_rows

Array = NDArray[np.float64]
_BY = ("mode", "model", "system", "engine", "precision", "basis")


@dataclass(frozen=True)
class Validation:
    """Rows answered, in order, with their predictions; and those that were not."""

    priced: Priced
    prediction: Prediction
    refused: tuple[Refused, ...]

    @property
    def rows(self) -> tuple[Row, ...]:
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


def validate(paths: Sequence[Path], json: Path | None) -> None:
    """The command ``validate serving``: every file's rows beside the predictions.

    Raises:
        TierwiseError: no file, or one that is not a table of serving measurements.
    """
    if not paths:
        raise TierwiseError("validate serving: name at least one CSV file of measurements")
    out = []
    for path in paths:
        found = check(path)
        out.append(data(path, found))
        if str(json) != "-":
            print("\n".join(report(path, found)))
    if json is not None:
        text = _json.dumps(out[0] if len(out) == 1 else out, indent=1)
        if str(json) == "-":
            sys.stdout.write(text + "\n")
        else:
            json.write_text(text + "\n")


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


def report(path: Path, v: Validation) -> list[str]:
    """Lines for people: errors over all rows and by group, and what was not answered and why."""
    refused = [r for r in v.refused if not r.apart]
    apart = [r for r in v.refused if r.apart]
    asked = len(v.rows) + len(refused)
    share = len(v.rows) / asked if asked else 0.0
    out = [f"{path.name}: {len(v.rows)} of {asked} determined rows answered ({share:.1%})"]
    if apart:
        out.append(f"apart: {len(apart)} rows whose deployment the file leaves open ({apart[0].reason})")
    if len(v.rows):
        out += _table(v)
    reasons: dict[str, list[int]] = {}
    for r in refused:
        reasons.setdefault(r.reason, []).append(r.line)
    out += [f"refused: {_lines(lines)}: {reason}" for reason, lines in reasons.items()]
    notes: dict[str, int] = {}
    for row in v.rows:
        for note in row.notes:
            notes[note] = notes.get(note, 0) + 1
    out += [f"read as: {n} rows: {note}" for note, n in notes.items()]
    return out


def _lines(lines: list[int]) -> str:
    shown = ", ".join(map(str, lines[:6]))
    return f"line{'s' if len(lines) > 1 else ''} {shown}" + (f" and {len(lines) - 6} more" if len(lines) > 6 else "")


def _table(v: Validation) -> list[str]:
    out = [f"{'':44s} {'rows':>5s}  {'TPOT median':>11s} {'mean':>7s} {'p90':>7s} {'in':>5s}"
           f"  {'TTFT median':>11s} {'mean':>7s} {'p90':>7s} {'in':>5s}"]  # fmt: skip
    out.append(_row("all", v, np.full(len(v.rows), True)))
    for by in _BY:
        names = v.group(by)
        out += [_row(f"{by} {name}", v, names == name) for name in np.unique(names)]
    return out


def _row(label: str, v: Validation, mask: NDArray[np.bool_]) -> str:
    cells = [f"{label[:44]:44s} {int(mask.sum()):5d}"]
    for quantity in ("tpot", "ttft"):
        e = summary(v, quantity, mask)
        cells.append("            not measured" if e is None else
                     f"{e['median']:11.1%} {e['mean']:7.1%} {e['p90']:7.1%} {e['inside']:5.0%}")  # fmt: skip
    return "  ".join(cells)


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
        "by": {by: {str(n): errors(v.group(by) == n) for n in np.unique(v.group(by))} for by in _BY},
        "rows": [_answer(v, i) for i in range(len(v.rows))],
        "refused": [{"line": r.line, "id": r.id, "reason": r.reason, "apart": r.apart} for r in v.refused],
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
