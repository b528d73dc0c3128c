"""Tables of measurements as typed columns: Parquet or CSV, every number checked once, on the way in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tierwise.core.errors import BadField, TierwiseError

Table: TypeAlias = dict[str, NDArray[Any]]
"""Columns of one length by name."""

Bounds: TypeAlias = tuple[float, float]
SIZE: Bounds = (1.0, 1e9)
COUNT: Bounds = (0.0, 1e9)
AMOUNT: Bounds = (0.0, 1e18)
# Seconds, milliseconds, rates: what a measurement may be. Zero is what some tools write for none.
MEASURED: Bounds = (0.0, 1e15)


def read(path: Path | str) -> Table:
    """A Parquet or CSV file as columns, of numbers or of text as the file has them.

    Raises:
        TierwiseError: the reader is not installed, or the file is no such table.
    """
    try:
        import pyarrow
        import pyarrow.csv
        import pyarrow.parquet
    except ImportError as error:
        raise TierwiseError("reading measurements needs pyarrow: pip install 'tierwise[fit]'") from error
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(2, "No such file", str(path))
    try:
        found = pyarrow.csv.read_csv(path) if path.suffix == ".csv" else pyarrow.parquet.read_table(path)
        names = found.column_names
        if len(set(names)) != len(names):
            twice = next(n for n in names if names.count(n) > 1)
            raise BadField(str(path), "columns", f"{twice!r} twice", "each column once")
        return {name: _plain(found[name]) for name in names}
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError, ValueError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise BadField(str(path), "format", path.suffix or "no suffix", "a Parquet file, or CSV named .csv") from error


def _plain(column: Any) -> NDArray[Any]:
    """Numbers as numbers, nothing as nan among them; everything else as text, nothing as "" among it."""
    values = column.to_numpy()
    if values.dtype.kind in "iuf":
        return np.asarray(values)
    if values.dtype.kind == "b":
        return np.asarray(values, dtype=float)
    held = ["" if v is None else v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v)
            for v in column.to_pylist()]  # fmt: skip
    return np.asarray(held, dtype=object)


def complete(table: Table, names: Sequence[str], where: str) -> Table:
    """The table, which has all of these columns.

    Raises:
        BadField: it has not.
    """
    if lacking := [c for c in names if c not in table]:
        raise BadField(where, "columns", ", ".join(table), f"also {', '.join(lacking)}")
    return table


def numbers(table: Table, where: str, bounds: Mapping[str, Bounds], lacking: Sequence[str] = ()) -> Table:
    """The table with its numeric columns as float64.

    Args:
        table: as :func:`read` gives it. ``where``: the file.
        bounds: least and most of each numeric column; columns that the table lacks are passed over.
        lacking: columns in which a row may hold nothing, which is nan.

    Raises:
        BadField: the first cell that is no number, or out of bounds: its row, and what is allowed.
    """
    out = dict(table)
    for name, (low, high) in bounds.items():
        if name not in table:
            continue
        values = np.full(len(table[name]), np.nan)
        for i, cell in enumerate(table[name]) if table[name].dtype.kind not in "iuf" else ():
            values[i] = number(cell, where, name, i, low, high)
        if table[name].dtype.kind in "iuf":
            values = np.asarray(table[name], dtype=float)
        with np.errstate(invalid="ignore"):
            wrong = ~(np.isnan(values) if name in lacking else np.zeros(len(values), bool))
            wrong &= ~((values >= low) & (values <= high))
        if np.any(wrong):
            i = int(np.argmax(wrong))
            found = table[name][i]
            raise _bad(where, name, i, getattr(found, "item", lambda found=found: found)(), low, high)
        out[name] = values
    return out


def number(cell: Any, where: str, name: str, row: int, low: float, high: float) -> float:
    """A cell as a number; nan where it holds nothing.

    Raises:
        BadField: it holds something else, or a number out of bounds.
    """
    if cell is None or (isinstance(cell, str) and cell.strip().lower() in ("", "nan", "none", "null")):
        return float("nan")
    try:
        found = float(cell)
    except (TypeError, ValueError, OverflowError):
        raise _bad(where, name, row, cell, low, high) from None
    if np.isnan(found) or low <= found <= high:
        return found
    raise _bad(where, name, row, cell, low, high)


def _bad(where: str, name: str, row: int, found: Any, low: float, high: float) -> BadField:
    return BadField(f"{where}: row {row + 1}", name, found, f"a number from {low:g} to {high:g}")
