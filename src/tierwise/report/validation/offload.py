"""``tierwise validate offload``: recorded speeds of models divided over a card and its host beside predictions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tierwise.measure.columns import complete
from tierwise.measure.offload import COLUMNS, KINDS, OffloadAnswers, check
from tierwise.measure.ops import read
from tierwise.report.validation import each_file, named


def validate(paths: Sequence[Path], json: Path | None) -> None:
    """Every file's rows beside the predictions.

    Raises:
        TierwiseError: no file, or one that is not a table of such measurements.
    """
    each_file(named(paths, "offload", "Parquet or CSV file of measurements"), json, _answer)


def _answer(path: Path) -> tuple[dict[str, Any], list[str]]:
    found = check(complete(read(path), COLUMNS, str(path)))
    return data(path, found), shown(path, found)


def shown(path: Path, a: OffloadAnswers) -> list[str]:
    """Lines for people: by kind and phase, then by device and engine."""
    answered = int(np.isfinite(a.predicted).sum())
    out = [f"{path.name}: {answered} of {len(a.rows)} rows answered; nothing is fitted on them"]
    out.append(f"{'':58s} {'rows':>5s} {'answered':>8s} {'median':>7s} {'worst':>6s} {'bias':>5s}")
    for label, mask in cells(a):
        s = summary(a, mask)
        out.append(f"{label[:58]:58s} {s['rows']:5.0f} {s['answered']:8.0f} {s['median']:7.1%} {s['worst']:6.0%} "
                   f"{s['bias']:5.2f}")  # fmt: skip
    for kind in KINDS:
        if (mine := a.kind == kind).any():
            out.append(f"{kind}: median {np.median(a.error[mine]):.1%} of all {int(mine.sum())} rows, refused ones at "
                       "100 %")  # fmt: skip
    reasons: dict[str, int] = {}
    for r in a.refused:
        reasons[r.reason] = reasons.get(r.reason, 0) + len(r.rows)
    return out + [f"refused: {n} rows: {reason}" for reason, n in sorted(reasons.items(), key=lambda x: -x[1])]


def cells(a: OffloadAnswers) -> list[tuple[str, NDArray[np.bool_]]]:
    """(what, which rows)."""
    out: list[tuple[str, NDArray[np.bool_]]] = []
    for kind in KINDS:
        for phase in ("decode", "prefill", "e2e"):
            mine = (a.kind == kind) & (a.phase == phase)
            if not mine.any():
                continue
            out.append((f"{kind}, {phase}", mine))
            for device in np.unique(a.device[mine]):
                for engine in np.unique(a.engine[mine & (a.device == device)]):
                    out.append((f"  {device[:38]}, {engine[:16]}", mine & (a.device == device) & (a.engine == engine)))
    return out


def summary(a: OffloadAnswers, mask: NDArray[np.bool_]) -> dict[str, float]:
    """Rows, how many were answered, and of those the median and worst error and the median ratio."""
    known = mask & np.isfinite(a.predicted)
    n = int(known.sum())
    nothing = float("nan")
    return {
        "rows": float(mask.sum()),
        "answered": float(n),
        "median": float(np.median(a.error[known])) if n else nothing,
        "worst": float(np.max(a.error[known])) if n else nothing,
        "bias": float(np.median((a.predicted / a.measured)[known])) if n else nothing,
    }


def data(path: Path, a: OffloadAnswers) -> dict[str, Any]:
    """Everything, for programs."""

    def plain(x: float) -> float | None:
        return float(x) if np.isfinite(x) else None

    return {
        "file": path.name,
        "cells": [{"what": label.strip(), **{k: plain(v) for k, v in summary(a, m).items()}} for label, m in cells(a)],
        "answers": [
            {"row": int(a.rows[i]), "kind": str(a.kind[i]), "phase": str(a.phase[i]), "device": str(a.device[i]),
             "engine": str(a.engine[i]), "measured": float(a.measured[i]), "predicted": plain(a.predicted[i])}
            for i in range(len(a.rows))
        ],
        "refused": [{"rows": r.rows.tolist(), "reason": r.reason} for r in a.refused],
    }  # fmt: skip
