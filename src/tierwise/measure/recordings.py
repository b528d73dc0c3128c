"""What recorded rows hold beside their operation, or leave out: ``recordings.yaml`` says it of engines' versions."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tierwise.core.yamltext import parsed


def recorded(rows: Mapping[str, NDArray[Any]], kind: str, what: str) -> NDArray[np.bool_]:
    """Which rows of a table were recorded in a way.

    Args:
        rows: columns; without ``engine`` and ``version`` no row was.
        kind: of rows (``attention``, ``gemm``, ``mla``).
        what: ``unwritten``, without the write of the cache; ``unfused``, with norms and rotary embeddings as chains of
            plain kernels; ``scaled``, with the scale of 8-bit inputs found at every call.
    """
    count = len(next(iter(rows.values())))
    out = np.zeros(count, dtype=bool)
    if not {"engine", "version"} <= set(rows):
        return out
    engine, version = (np.asarray(rows[c], dtype=str) for c in ("engine", "version"))
    system = np.asarray(rows["system"], dtype=str) if "system" in rows else np.full(count, "")
    for said in _said()["recordings"]:
        if (said["rows"], said["what"]) == (kind, what):
            here = np.isin(system, said["systems"]) if "systems" in said else True
            out |= (engine == said["engine"]) & np.isin(version, said["versions"]) & here
    return out


def typical(coefficient: str, of: str = "*") -> float:
    """A coefficient of what only some rows hold, for classes that were recorded otherwise; ``of``: a class's dtype, or
    the system of the rows."""
    by: dict[str, float] = _said()["typical"][coefficient]
    return float(by.get(of, by["*"]))


@cache
def _said() -> dict[str, Any]:
    found: dict[str, Any] = parsed(Path(__file__).with_name("recordings.yaml").read_text("utf-8"))
    return found
