"""Intervals of serving predictions: how wide they must be, from errors on rows that were left out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tierwise.serving.coefficients import unquantized
from tierwise.serving.predict import Priced, known_of

Array = NDArray[np.float64]
# Features of rows whose engine, machine or model a fit did not see: what those it saw scatter says nothing of them.
KINDS = ("experts", "drafts", "ranks")
LEAST = 0.03  # added to an error before its log is taken, so that none is minus infinite
RIDGE = 5.0  # rows' worth of belief that a feature changes nothing


def wider(p: Priced, off: Array, seen: bool) -> dict[str, float]:
    """How many times as large errors (logs of measured over predicted) are for each feature of rows: of a least-squares
    fit to their logs, of mean 1 over the names of a level; no less than 1 for kinds of rows.

    Args:
        seen: whether the fit that made the errors saw other rows of the same engine, machine and model.
    """
    known = {name: np.asarray(flag, dtype=float) for name, flag in known_of(p).items() if seen or name in KINDS}
    x = np.column_stack([np.ones(len(off)), *known.values()])
    ridge = np.diag([0.0] + [RIDGE] * len(known))
    found = np.linalg.solve(x.T @ x + ridge, x.T @ np.log(np.abs(off) + LEAST))
    logs = dict(zip(known, found[1:], strict=True))
    for by in {name.split("/")[0] for name in logs if "/" in name}:
        mine = [name for name in logs if name.startswith(f"{by}/")]
        mean = float(np.average([logs[n] for n in mine], weights=[known[n].sum() for n in mine]))
        logs |= {name: logs[name] - mean for name in mine}
    return {name: round(float(np.exp(max(v, 0.0) if name in KINDS else v)), 3) for name, v in logs.items()}


def widths(p: Priced, wide: dict[str, float]) -> Array:
    """The same of each row, (n,)."""
    out = np.ones(len(p.rows))
    for name, flag in known_of(p).items():
        out = np.where(flag, out * wide.get(name, 1.0), out)
    return out


def interval(off: Array, width: Array) -> list[float]:
    """Factors on a prediction of width 1 between which 80 % of measurements lie."""
    low, high = np.quantile(off / width, [0.1, 0.9])
    return [round(float(np.exp(min(low, -1e-3))), 3), round(float(np.exp(max(high, 1e-3))), 3)]


def coverage(p: Priced, off: Array, groups: NDArray[np.str_], seen: bool) -> dict[str, float]:
    """Share of measurements inside the intervals that the rows of other groups give, the mean interval score of those
    (in the log; Gneiting and Raftery, 2007), and that of one constant width."""
    score, inside = {}, np.zeros(len(off), dtype=bool)
    for constant in (False, True):
        low, high = np.zeros(len(off)), np.zeros(len(off))
        for group in np.unique(groups):
            there, others = groups == group, np.flatnonzero(groups != group)
            wide = {} if constant else wider(p.take(others), off[others], seen)
            width = widths(p, wide)
            bounds = np.log(interval(off[others], width[others]))
            low[there], high[there] = (b * width[there] for b in bounds)
        if not constant:
            inside = (off >= low) & (off <= high)
        miss = np.maximum(low - off, 0.0) + np.maximum(off - high, 0.0)
        score[constant] = float(np.mean(high - low + 10.0 * miss))
    return {"covered": float(inside.mean()), "score": score[False], "constant": score[True], **strata(p, inside)}


def strata(p: Priced, inside: NDArray[np.bool_], least: int = 30) -> dict[str, float]:
    """Least and most share inside among engines, machines, models and precisions of 30 rows or more."""
    names = [[r.engine for r in p.rows], [r.system for r in p.rows], [architecture(m) for m in p.models],
             [r.dense for r in p.rows]]  # fmt: skip
    shares = [inside[at].mean() for column in map(np.asarray, names) for name in np.unique(column)
              if (at := column == name).sum() >= least]  # fmt: skip
    good = np.mean([0.65 <= s <= 0.92 for s in shares])
    return {"least": float(min(shares)), "most": float(max(shares)), "good": float(good), "strata": float(len(shares))}


def widest(p: Priced, rows: NDArray[np.intp], off: Array) -> dict[str, float]:
    """:func:`wider` of rows that may come more than once: of the largest of their errors."""
    most = np.zeros(len(p.rows))
    np.maximum.at(most, rows, np.abs(off))
    once = np.unique(rows)
    return wider(p.take(once), most[once], seen=False)


def architecture(model: str) -> str:
    """Models of one architecture and size are one: what is learned from one is known of the other."""
    model = unquantized(model)
    return {"deepseek-r1": "deepseek-v3", "deepseek-v3.1": "deepseek-v3"}.get(model, model)


def errors(log: Array, truth: Array) -> dict[str, float]:
    """Median, mean and 90th percentile of the relative error."""
    e = np.abs(np.expm1(log - truth))
    return {"median": float(np.median(e)), "mean": float(np.mean(e)), "p90": float(np.quantile(e, 0.9))}
