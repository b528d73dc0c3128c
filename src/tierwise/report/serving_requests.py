"""The requests of a simulation as a table: Parquet, or CSV where the file's name ends so."""

from __future__ import annotations

import csv
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tierwise.core.errors import TierwiseError
from tierwise.core.files import check_writable, write_by
from tierwise.serving.metrics import times
from tierwise.serving.outcome import Run

# Names of the states, in the order of their numbers.
STATES = ("waiting", "running", "done", "rejected")
ENDINGS = (".parquet", ".csv")
_ROWS = 100_000  # of a CSV, written at a time


def parquet(run: Run, path: str) -> None:
    """Write one row a request, in the trace's order; see :func:`columns`. The old file stays until all is written.

    Raises:
        TierwiseError: the folder cannot be written; another ending; Parquet is asked for and pyarrow is not installed.
    """
    check_writable(path, ENDINGS)
    put = _csv if path.lower().endswith(".csv") else _parquet
    write_by(path, lambda temporary: put(temporary, columns(run)))


def columns(run: Run) -> dict[str, NDArray[Any]]:
    """Columns by name, each (n,). Times in seconds, nan (null, empty) where they never were."""
    r, t, each = run.requests, run.trace, times(run)
    return {
        "request": np.arange(len(t)), "arrival_s": r.arrival, "prompt": t.prompt, "output": t.output,
        "tenant": np.array(t.tenants, dtype=object)[t.tenant], "priority": t.priority, "after": t.after,
        "samples": t.samples, "adapter": t.adapter,
        "scheduled_s": r.scheduled, "first_token_s": r.first, "last_token_s": r.last,
        "queueing_s": each.queueing, "ttft_s": each.ttft, "tpot_s": each.tpot, "latency_s": each.latency,
        "longest_gap_s": r.longest, "tokens": r.made, "cached": r.cached, "preempted": r.preempted,
        "replica": r.replica, "state": np.array(STATES, dtype=object)[r.state],
    }  # fmt: skip


def _parquet(path: str, table: dict[str, NDArray[Any]]) -> None:
    try:
        import pyarrow as pa
        from pyarrow import parquet as pq
    except ImportError:
        raise TierwiseError(
            "writing Parquet needs pyarrow, which is not installed: pip install 'tierwise[serve]', "
            "or give a file that ends in .csv"
        ) from None
    text = ("tenant", "state")
    arrays = {k: pa.array(v).dictionary_encode() if k in text else pa.array(v, from_pandas=True)
              for k, v in table.items()}  # fmt: skip
    pq.write_table(pa.table(arrays), path, compression="zstd")


def _csv(path: str, table: dict[str, NDArray[Any]]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as f:
        out = csv.writer(f)
        out.writerow(table)
        n = len(next(iter(table.values())))
        for start in range(0, n, _ROWS):
            part = [v[start : start + _ROWS].tolist() for v in table.values()]
            floats = [v.dtype.kind == "f" for v in table.values()]
            shown = [["" if math.isnan(x) else x for x in c] if f else c for c, f in zip(part, floats, strict=True)]
            out.writerows(zip(*shown, strict=True))
