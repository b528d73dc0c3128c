"""``tierwise validate serving``: recorded serving measurements beside predictions, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tierwise.measure.serving import GROUPS, Validation, check, data, summary
from tierwise.report.validation import each_file, named


def validate(paths: Sequence[Path], json: Path | None) -> None:
    """Every file's rows beside the predictions.

    Raises:
        TierwiseError: no file, or one that is not a table of serving measurements.
    """
    each_file(named(paths, "serving", "CSV file of measurements"), json, _answer)


def _answer(path: Path) -> tuple[dict[str, Any], list[str]]:
    found = check(path)
    return data(path, found), shown(path, found)


def shown(path: Path, v: Validation) -> list[str]:
    """Lines for people: errors over all rows and by group, and what was not answered and why."""
    refused = [r for r in v.refused if not r.undetermined]
    apart = [r for r in v.refused if r.undetermined]
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
    for by in GROUPS:
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
