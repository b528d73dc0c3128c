"""Scenarios side by side, for a terminal and as JSON."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tierwise.comparison import Comparison, Ratio
from tierwise.core.units import dollars, gb, joules, seconds
from tierwise.report.plain import plain
from tierwise.result import Result

_ROWS: tuple[tuple[str, str, Callable[[Comparison], Ratio], Callable[[float], str]], ...] = (
    ("throughput", "tokens (requests) per second", lambda c: c.throughput, lambda x: f"{x:,.1f}"),
    ("ttft_s", "time to first token", lambda c: c.ttft, seconds),
    ("tpot_s", "time per output token", lambda c: c.tpot, seconds),
    ("time_s", "time for the batch", lambda c: c.time, seconds),
    ("batch", "batch", lambda c: c.batch, lambda x: f"{x:,.0f}"),
    ("memory_peak", "memory per device", lambda c: c.memory.peak, gb),
    ("memory_weights", "weights per device", lambda c: c.memory.weights, gb),
    ("memory_sequence", "cache per request", lambda c: c.memory.kv, gb),
    ("energy_j", "energy for the batch", lambda c: c.energy, joules),
)


def as_dict(pairs: Sequence[Comparison], texts: Sequence[str]) -> dict[str, Any]:
    """JSON form (``tierwise.comparison/1``): per change and quantity before, after, ratio and its interval."""
    changes = []
    for pair, text in zip(pairs, texts[1:], strict=True):
        ratios = ((key, of(pair)) for key, _, of, _ in _ROWS)
        rows = {key: plain({"before": float(r.before), "after": float(r.after), "ratio": float(r),
                            "interval": [float(r.low), float(r.high)]}) for key, r in ratios}  # fmt: skip
        changes.append({"scenario": text, "fits": bool(pair.other.fits), "ratios": rows})
    return {"schema": "tierwise.comparison/1", "baseline": texts[0], "baseline_fits": bool(pairs[0].base.fits),
            "changes": changes}  # fmt: skip


def lines(pair: Comparison) -> list[tuple[str, str, str]]:
    """(what, value of the baseline, value of the change with the ratio and its interval); of sweeps, least to greatest.

    What is not known of either has no line.
    """
    out = []
    for _, label, of, text in _ROWS:
        r = of(pair)
        before, after, ratio = (_finite(x) for x in (r.before, r.after, r.value))
        if not (before.size and after.size):
            continue
        low, high = _finite(r.low), _finite(r.high)
        shown = _span(ratio, _factor) if ratio.size else ""
        if ratio.size and low.size and high.size and high.max() / low.min() > ratio.max() / ratio.min() * 1.0001:
            shown += f" ({_factor(low.min())} to {_factor(high.max())})"
        out.append((label, _span(before, text), f"{_span(after, text)}  {shown}".rstrip()))
    return out


def _finite(x: object) -> NDArray[np.float64]:
    found = np.ravel(np.asarray(x, dtype=np.float64))
    return found[np.isfinite(found)]


def _span(x: NDArray[np.float64], text: Callable[[float], str]) -> str:
    low, high = text(float(x.min())), text(float(x.max()))
    return low if low == high else f"{low} to {high}"


def show(pairs: Sequence[Comparison], texts: Sequence[str]) -> None:
    """Print a table: the baseline, then each change with its ratio and interval."""
    from tierwise.report.console import console
    from tierwise.report.terminal import grid

    out = console()
    names = ["change"] if len(pairs) == 1 else [f"change {i + 1}" for i in range(len(pairs))]
    table = grid(["", "baseline", *names], whole=0)
    for _, label, of, text in _ROWS:
        ratios = [of(p) for p in pairs]
        if not math.isfinite(float(ratios[0].before)):
            continue
        table.add_row(label, text(float(ratios[0].before)), *(_cell(r, text) for r in ratios))
    money = [r for r in (pairs[0].base, *(p.other for p in pairs)) if math.isfinite(float(r.cost_per_million))]
    if len(money) == len(pairs) + 1:
        table.add_row("per million tokens (requests)", *(dollars(float(r.cost_per_million)) for r in money))
    out.print("baseline: " + texts[0], markup=False, highlight=False)
    for name, change in zip(names, texts[1:], strict=True):
        out.print(f"{name}:   {change}", markup=False, highlight=False)
    out.print(table)
    for name, r in (("baseline", pairs[0].base), *zip(names, (p.other for p in pairs), strict=True)):
        if not r.fits:
            out.print(f"{name} does not fit: {_short(r)}", markup=False, highlight=False)


def _cell(r: Ratio, text: Callable[[float], str]) -> str:
    after, ratio = float(r.after), float(r.value)
    if not math.isfinite(ratio):
        return text(after) if math.isfinite(after) else "–"
    spread = f" ({_factor(r.low)} to {_factor(r.high)})" if float(r.high) / float(r.low) > 1.0001 else ""
    return f"{text(after)}  {_factor(ratio)}{spread}"


def _factor(x: object) -> str:
    """Two digits behind the point, more for what is small."""
    value = float(x)  # type: ignore[arg-type]
    return f"{value:.2f}×" if value >= 0.1 or value == 0 else f"{value:.2g}×"


def _short(r: Result) -> str:
    return f"needs {gb(float(r.memory.peak))}, has {gb(r.memory.capacity)}"
