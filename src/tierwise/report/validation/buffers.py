"""``tierwise validate buffers``: sizes that llama.cpp printed beside the memory account."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tierwise.measure import breakdowns, buffers
from tierwise.measure.buffers import BufferAnswers
from tierwise.measure.columns import complete
from tierwise.measure.ops import read
from tierwise.report.validation import each_file, named


def validate(paths: Sequence[Path], json: Path | None) -> None:
    """Every file's sizes beside the account.

    Raises:
        TierwiseError: no file, or one that is not a table of printed sizes.
    """
    each_file(named(paths, "buffers", "Parquet or CSV file of printed sizes"), json, _answer)


def _answer(path: Path) -> tuple[dict[str, Any], list[str]]:
    table = read(path)
    kind = breakdowns if "model_mib" in table else buffers
    found = kind.check(complete(table, kind.COLUMNS, str(path)))
    refused = [{"rows": r.rows.tolist(), "reason": r.reason} for r in found.refused]
    return {"file": path.name, "cells": cells(found), "refused": refused}, shown(path, found)


def shown(path: Path, a: BufferAnswers) -> list[str]:
    """Lines for people."""
    out = [f"{path.name}: {len(a.what)} sizes beside the account, {sum(len(r.rows) for r in a.refused)} rows refused"]
    out.append(f"{'':32s} {'sizes':>5s} {'median':>8s} {'worst':>8s} {'bias':>6s}")
    for c in cells(a):
        out.append(f"{c['what']:32s} {c['sizes']:5d} {c['median']:8.3%} {c['worst']:8.3%} {c['bias']:6.3f}")
    return out + sorted({f"refused: {r.reason}" for r in a.refused})


def cells(a: BufferAnswers) -> list[dict[str, Any]]:
    """Errors by what the sizes are of, then by model and format."""
    out: list[dict[str, Any]] = []
    for what in dict.fromkeys(a.what.tolist()):
        mine = a.what == what
        for label in ("", *np.unique(a.label[mine])):
            pick = mine & (a.label == label) if label else mine
            ratio = a.predicted[pick] / a.printed[pick]
            out.append({"what": f"  {label}" if label else what, "sizes": int(pick.sum()),
                        "median": float(np.median(a.error[pick])), "worst": float(np.max(a.error[pick])),
                        "bias": float(np.median(ratio))})  # fmt: skip
    return out
