"""BurstGPT: CSV of Timestamp (s), Model, Request tokens, Response tokens, Total tokens, Log Type.

Rows with 0 response tokens are requests that failed there. The third release adds Session ID (conversations only) and
Elapsed time (s): there, each turn follows the answer before it, after the time that passed between.
Source: https://github.com/HPMLL/BurstGPT, README and releases v1.1 and v2.0 (BurstGPT, KDD 2025).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tierwise.serving.traffic.formats._csv import CsvColumns, has
from tierwise.serving.traffic.formats.simple import codes, following
from tierwise.serving.traffic.rows import built
from tierwise.serving.traffic.trace import Trace

CSV = True
NEEDS = ("Timestamp", "Request tokens", "Response tokens")


def sniff(path: Path, head: str) -> bool:
    """Whether the header names the columns."""
    return has(head, *NEEDS)


def read(path: Path) -> Trace:
    """Every request that was answered, the first at 0 s; models as tenants."""
    table = CsvColumns(path)
    table.need(*NEEDS)
    time = table.moment(NEEDS[0])
    _, answered = (table.number(name) for name in NEEDS[1:])
    other: dict[str, Any] = {}
    if table.find("Model"):
        other["tenant"], other["tenants"] = codes(table.text("Model"))
    if table.find("Session ID") and table.find("Elapsed time"):
        index, names = codes(table.text("Session ID"))
        index = np.where(np.isin(index, [i for i, name in enumerate(names) if not name]), -1, index)
        after = following(np.where(answered > 0, index, -1), np.nan_to_num(time))
        free = time + np.nan_to_num(table.number("Elapsed time"))  # when the answer had come
        other["after"] = after
        other["think"] = np.where(after >= 0, np.maximum(np.nan_to_num(time - free[after]), 0.0), 0.0)
    failed = (answered == 0, "requests that failed (0 response tokens)")
    return built(table.rows(), *NEEDS, absolute=True, left_out=failed, **other)
