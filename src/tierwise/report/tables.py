"""Tables as files: CSV or Parquet by the file's ending, written whole or not at all.

Every command that prints a table writes it so (``--table``): all rows and columns, numbers in SI units, empty (null)
where there is none.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tierwise.core.errors import TierwiseError
from tierwise.core.files import check_writable, write_by

ENDINGS = (".parquet", ".csv")
_ROWS = 100_000  # of a CSV, written at a time


def write_table(path: str, table: Mapping[str, NDArray[Any]] | Sequence[Mapping[str, Any]]) -> None:
    """Write a table; the old file stays until all is written.

    Args:
        path: ends in .csv or .parquet.
        table: columns by name, each (n,); or rows, of which columns are made (:func:`columns_of`).

    Raises:
        TierwiseError: the folder cannot be written; another ending; Parquet is asked for and neither pyarrow nor polars
            is installed.
    """
    check_writable(path, ENDINGS)
    columns = table if isinstance(table, Mapping) else columns_of(table)
    put = _csv if path.lower().endswith(".csv") else _parquet
    write_by(path, lambda temporary: put(temporary, columns))


def columns_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, NDArray[Any]]:
    """Columns of rows, in the order in which rows name them: numbers as floats with nan for none, all else as text.

    What is nested becomes columns of its own (``bytes.hbm``), lists become text with spaces between.
    """
    flat = [_flat(row) for row in rows]
    names = dict.fromkeys(name for row in flat for name in row)
    return {name: _column([row.get(name) for row in flat]) for name in names}


def _flat(row: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            out |= _flat(value, f"{above}{name}.")
        else:
            out[above + name] = value
    return out


def _column(values: Sequence[Any]) -> NDArray[Any]:
    known = [v for v in values if v is not None]
    if known and all(isinstance(v, (bool, np.bool_)) for v in known) and len(known) == len(values):
        return np.array(values, dtype=bool)
    if all(isinstance(v, (int, float, np.number)) and not isinstance(v, bool) for v in known):
        return np.array([math.nan if v is None else v for v in values], dtype=np.float64)
    return np.array([_text(v) for v in values], dtype=object)


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _parquet(path: str, table: Mapping[str, NDArray[Any]]) -> None:
    try:
        import pyarrow as pa
        from pyarrow import parquet as pq
    except ImportError:
        _polars(path, table)
        return
    arrays = {k: pa.array(v).dictionary_encode() if v.dtype == object else pa.array(v, from_pandas=True)
              for k, v in table.items()}  # fmt: skip
    pq.write_table(pa.table(arrays), path, compression="zstd")


def _polars(path: str, table: Mapping[str, NDArray[Any]]) -> None:
    try:
        import polars as pl
    except ImportError:
        raise TierwiseError(
            "writing Parquet needs pyarrow (or polars), which is not installed: pip install 'tierwise[tables]', "
            "or give a file that ends in .csv"
        ) from None
    pl.DataFrame({k: v.tolist() for k, v in table.items()}).fill_nan(None).write_parquet(path)


def _csv(path: str, table: Mapping[str, NDArray[Any]]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as f:
        out = csv.writer(f)
        out.writerow(table)
        n = len(next(iter(table.values()), ()))
        for start in range(0, n, _ROWS):
            part = [v[start : start + _ROWS].tolist() for v in table.values()]
            floats = [v.dtype.kind == "f" for v in table.values()]
            shown = [["" if math.isnan(x) else x for x in c] if f else c for c, f in zip(part, floats, strict=True)]
            out.writerows(zip(*shown, strict=True))
