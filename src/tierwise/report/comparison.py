"""Scenarios side by side, as data."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tierwise.comparison import Comparison, Ratio
from tierwise.core.units import gb, joules, seconds
from tierwise.report.made import made_by
from tierwise.report.plain import plain
from tierwise.result import Result

ROWS: tuple[tuple[str, str, Callable[[Comparison], Ratio], Callable[[float], str]], ...] = (
    ("throughput", "{unit} per second", lambda c: c.throughput, lambda x: f"{x:,.1f}"),
    ("ttft_s", "time to first token", lambda c: c.ttft, seconds),
    ("tpot_s", "time per output token", lambda c: c.tpot, seconds),
    ("time_s", "time for the batch", lambda c: c.time, seconds),
    ("batch", "batch", lambda c: c.batch, lambda x: f"{x:,.0f}"),
    ("memory_peak", "memory per device", lambda c: c.memory.peak, gb),
    ("memory_weights", "weights per device", lambda c: c.memory.weights, gb),
    ("memory_sequence", "cache per request", lambda c: c.memory.kv, gb),
    ("energy_j", "energy for the batch", lambda c: c.energy, joules),
)


def as_dict(pairs: Sequence[Comparison], texts: Sequence[str], labels: Sequence[str] = ()) -> dict[str, Any]:
    """JSON form (``tierwise.comparison/1``): per change and quantity before, after, ratio and its interval.

    Args:
        texts: the scenarios as they were written, the baseline first. ``labels``: their names.
    """
    names = list(labels) or named(texts)
    changes = []
    for pair, text, name in zip(pairs, texts[1:], names[1:], strict=True):
        ratios = ((key, of(pair)) for key, _, of, _ in ROWS)
        rows = {key: plain({"before": float(r.before), "after": float(r.after), "ratio": float(r),
                            "interval": [float(r.low), float(r.high)]}) for key, r in ratios}  # fmt: skip
        changes.append({"label": name, "scenario": text, "fits": bool(pair.other.fits), "room": _room(pair.other),
                        "usd_per_million": plain(pair.other.cost_per_million), "ratios": rows})  # fmt: skip
    base = pairs[0].base
    return {"schema": "tierwise.comparison/1", "made_by": made_by(), "baseline": texts[0], "label": names[0],
            "unit": _unit(base),
            "baseline_fits": bool(base.fits), "room": _room(base),
            "usd_per_million": plain(base.cost_per_million), "changes": changes}  # fmt: skip


def _unit(r: Result) -> str:
    """What it makes."""
    return "tokens" if r.has("decode") else "requests"


def _room(r: Result) -> dict[str, float]:
    return {"needs": float(r.memory.peak), "has": float(r.memory.capacity)}


def named(texts: Sequence[str]) -> list[str]:
    """Short names of scenarios that nobody named, no two alike: ``baseline``, then what each says that the first does
    not, or its file's name."""
    first = _words(texts[0])
    out = ["baseline"]
    for i, text in enumerate(texts[1:], 1):
        if os.path.isfile(text):
            name = os.path.splitext(os.path.basename(text))[0]
        else:
            own = [w for w in _words(text) if w not in first and w not in ("…", "...")]
            name = ", ".join(w.removeprefix("--").removeprefix("technique ") for w in own) or f"change {i}"
        name = name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"
        out.append(name if name not in out else f"{name[: LONGEST - 4]} ({i})")
    return out


LONGEST = 24  # characters of a name that nobody gave


def _words(text: str) -> list[str]:
    """Flags with their values, and what stands by itself."""
    try:
        words = shlex.split(text)
    except ValueError:
        words = text.split()
    out: list[str] = []
    for word in words:
        if out and out[-1].startswith("--") and " " not in out[-1] and not word.startswith("--"):
            out[-1] += f" {word}"
        else:
            out.append(word)
    return out


def table_rows(d: dict[str, Any]) -> list[dict[str, Any]]:
    """One row a scenario, the baseline first: each quantity, its ratio to the baseline and the ratio's interval."""
    first = {"label": d["label"], "scenario": d["baseline"], "fits": d["baseline_fits"],
             **{key: r["before"] for key, r in d["changes"][0]["ratios"].items()},
             "usd_per_million": d["usd_per_million"]}  # fmt: skip
    rows = [first]
    for c in d["changes"]:
        row = {"label": c["label"], "scenario": c["scenario"], "fits": c["fits"]}
        for key, r in c["ratios"].items():
            row |= {key: r["after"], f"{key}_ratio": r["ratio"], f"{key}_low": r["interval"][0],
                    f"{key}_high": r["interval"][1]}  # fmt: skip
        rows.append(row | {"usd_per_million": c["usd_per_million"]})
    return rows


def lines(pair: Comparison) -> list[tuple[str, str, str]]:
    """(what, value of the baseline, value of the change with the ratio and its interval); of sweeps, least to greatest.

    What is not known of either has no line.
    """
    out = []
    unit = _unit(pair.base)
    for _, label, of, text in ROWS:
        r = of(pair)
        before, after, ratio = (_finite(x) for x in (r.before, r.after, r.value))
        if not (before.size and after.size):
            continue
        low, high = _finite(r.low), _finite(r.high)
        shown = _span(ratio, factor) if ratio.size else ""
        if ratio.size and low.size and high.size and high.max() / low.min() > ratio.max() / ratio.min() * 1.0001:
            shown += f" ({factor(low.min())} to {factor(high.max())})"
        out.append((label.format(unit=unit), _span(before, text), f"{_span(after, text)}  {shown}".rstrip()))
    return out


def _finite(x: object) -> NDArray[np.float64]:
    found = np.ravel(np.asarray(x, dtype=np.float64))
    return found[np.isfinite(found)]


def _span(x: NDArray[np.float64], text: Callable[[float], str]) -> str:
    low, high = text(float(x.min())), text(float(x.max()))
    return low if low == high else f"{low} to {high}"


def factor(x: object) -> str:
    """Two digits behind the point, more for what is small."""
    value = float(x)  # type: ignore[arg-type]
    return f"{value:.2f}×" if value >= 0.1 or value == 0 else f"{value:.2g}×"
