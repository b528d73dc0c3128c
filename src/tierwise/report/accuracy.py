"""How far predictions are from measurements, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from tierwise.report.numbers import UNKNOWN
from tierwise.report.plain import json_text, plain

if TYPE_CHECKING:
    from tierwise.measure.ops import Accuracy

Line = tuple[str, tuple[str, ...], "Accuracy"]


def as_dict(lines: Sequence[Line], schema: str = "tierwise.validation/1") -> dict[str, object]:
    """JSON form: of each group what it is, and its accuracy; what cannot be said is null."""
    groups = [{"op": op, "group": [n for n in names if n]} | plain(asdict(a)) for op, names, a in lines]
    return {"schema": schema, "groups": groups}


def show(lines: Sequence[Line], path: Path | None, schema: str = "tierwise.validation/1") -> None:
    """Print the table, and write the JSON form to a path (``-``: print that instead)."""
    text = json_text(as_dict(lines, schema))
    if path is not None and str(path) == "-":
        print(text)
        return
    from tierwise.report.console import console
    from tierwise.report.terminal import grid

    rows = []
    for op, names, a in lines:
        numbers = plain([a.median, a.mean, a.p90, a.bias, a.coverage])
        shares = (UNKNOWN if x is None else f"{x:.1%}" for x in numbers)
        rows.append([op, " ".join(n for n in names if n), str(a.rows), str(a.answered), *shares])
    columns = ("op", "of", "rows", "answered", "median", "mean", "p90", "bias", "in interval")
    console().print(grid(columns, rows, left=2))
    if path is not None:
        path.write_text(text + "\n")
