"""``tierwise validate edge``: recorded tokens per second of llama.cpp and MLX beside predictions, and watts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tierwise.measure.edge import EdgeAnswers, PowerError, check, power, summary
from tierwise.measure.edge_rows import NEURAL, RefusedRows, checked
from tierwise.measure.ops import read
from tierwise.report.validation import each_file, named


def validate(paths: Sequence[Path], json: Path | None) -> None:
    """Every file's rows beside the predictions.

    Raises:
        TierwiseError: no file, or one that is not a table of such measurements.
    """
    each_file(named(paths, "edge", "Parquet or CSV file of measurements"), json, _answer)


def _answer(path: Path) -> tuple[dict[str, Any], list[str]]:
    table = checked(read(path), str(path))
    found = check(table)
    drawn, neural = power(found, table), check(table, NEURAL)
    made = data(path, found, drawn)
    if len(neural.rows):
        made["neural"] = {phase: summary(neural, neural.phase == phase) for phase in ("decode", "prefill")
                          if (neural.phase == phase).any()}  # fmt: skip
    return made, shown(path, found, drawn) + on_neural_units(neural)


def on_neural_units(a: EdgeAnswers) -> list[str]:
    """Lines for people on rows of language models on neural units, refused ones at 100 %."""
    out = []
    for phase in ("decode", "prefill"):
        mine = a.phase == phase
        if mine.any():
            s = summary(a, mine)
            out.append(f"neural units, {phase}: {s['answered']:.0f} of {s['rows']:.0f} rows answered, median error of "
                       f"these {np.median(a.error[mine & np.isfinite(a.predicted)]):.1%}, of all {s['median']:.1%}, "
                       f"{s['coverage']:.0%} inside the interval")  # fmt: skip
    return out + _reasons(a.refused, "neural units, refused")


def shown(path: Path, a: EdgeAnswers, p: PowerError) -> list[str]:
    """Lines for people: errors by phase, by engine, by device; power; what was refused and why."""
    answered = int(np.isfinite(a.predicted).sum())
    out = [f"{path.name}: {answered} of {len(a.rows)} rows of llama.cpp and MLX map to a machine and a model; the "
           "others count as 100 % error"]  # fmt: skip
    out.append(f"{'':44s} {'rows':>5s} {'answered':>8s} {'median':>7s} {'bias':>6s} {'in 80 %':>7s}")
    for label, mask in _cells(a):
        s = summary(a, mask)
        out.append(f"{label[:44]:44s} {s['rows']:5.0f} {s['answered']:8.0f} {s['median']:7.1%} {s['bias']:6.2f} "
                   f"{s['coverage']:7.0%}")  # fmt: skip
    for phase in ("decode", "prefill"):
        mine = p.phase == phase
        if mine.any():
            out.append(f"power, {phase}: {int(mine.sum())} rows, median error {np.median(p.error[mine]):.1%}, "
                       f"{np.mean(p.inside[mine]):.0%} inside the interval")  # fmt: skip
    if p.unpriced:
        out.append(f"energy of {p.unpriced} rows in uJ an inference: refused; microcontrollers' engines are not priced")
    return out + _reasons(a.refused, "refused")


def _reasons(refused: Sequence[RefusedRows], what: str) -> list[str]:
    reasons: dict[str, int] = {}
    for r in refused:
        reasons[r.reason] = reasons.get(r.reason, 0) + len(r.rows)
    return [f"{what}: {n} rows: {reason}" for reason, n in sorted(reasons.items(), key=lambda x: -x[1])]


def _cells(a: EdgeAnswers) -> list[tuple[str, NDArray[np.bool_]]]:
    """(what, which rows): by phase, then by engine and device within it."""
    out = []
    for phase in ("decode", "prefill"):
        mine = a.phase == phase
        if not mine.any():
            continue
        out.append((phase, mine))
        for by, names in (("engine", a.engine), ("device", a.machine)):
            for name in np.unique(names[mine]):
                out.append((f"  {by} {name}" if name else "  not answered", mine & (names == name)))
    return out


def data(path: Path, a: EdgeAnswers, p: PowerError) -> dict[str, Any]:
    """Everything, for programs."""
    return {
        "file": path.name,
        "rows": len(a.rows),
        "answered": int(np.isfinite(a.predicted).sum()),
        "by": {label.strip() if not label.startswith(" ") else f"{label.strip()}": summary(a, mask)
               for label, mask in _cells(a) if not label.startswith(" ")},
        "cells": [{"phase": a.phase[np.flatnonzero(m)[0]].item(), "what": label.strip(), **summary(a, m)}
                  for label, m in _cells(a)],
        "power": {phase: {"rows": int((p.phase == phase).sum()), "median": float(np.median(p.error[p.phase == phase])),
                          "coverage": float(np.mean(p.inside[p.phase == phase]))}
                  for phase in ("decode", "prefill") if (p.phase == phase).any()},
        "answers": [_row(a, i) for i in range(len(a.rows))],
        "refused": [{"rows": r.rows.tolist(), "reason": r.reason} for r in a.refused],
    }  # fmt: skip


def _row(a: EdgeAnswers, i: int) -> dict[str, Any]:
    known = bool(np.isfinite(a.predicted[i]))
    return {
        "row": int(a.rows[i]), "phase": str(a.phase[i]), "machine": str(a.machine[i]), "engine": str(a.engine[i]),
        "measured": float(a.measured[i]), "predicted": float(a.predicted[i]) if known else None,
        "low": float(a.predicted[i] / a.high[i]) if known else None,
        "high": float(a.predicted[i] / a.low[i]) if known else None,
    }  # fmt: skip
