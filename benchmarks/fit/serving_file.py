"""The files of steps' corrections and of the closed loop, from a fit and its errors on rows that were left out."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from benchmarks.fit.serving_intervals import errors, interval, wider, widest, widths
from numpy.typing import NDArray

from tierwise.serving.coefficients import STEPS, unquantized
from tierwise.serving.steady import START

if TYPE_CHECKING:
    from benchmarks.fit.serving import Fit, Problem

Array = NDArray[np.float64]


def documents(
    found: Fit, q: Problem, results: dict[str, tuple[Array, Array]], args: argparse.Namespace
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What corrects steps, and what is the loop's own."""
    agg = np.asarray([r.mode == "agg" for r in q.p.rows])
    one = np.asarray([r.prefill is None for r in q.p.rows])
    coefficients: dict[str, Any] = {name: {"base": START[name]} for name in START}
    for (name, by, key), value in zip(found.keys, found.theta, strict=True):
        entry = coefficients[name]
        if by == "base":
            entry["base"] = float(f"{START[name] * np.exp(value):.4g}")
        elif abs(value) > 0.01:
            entry.setdefault(by, {})[key] = float(f"{np.exp(value):.4g}")
    off = {by: (q.tpot - found[0], q.ttft - found[1]) for by, found in results.items()}
    served = q.p.take(np.flatnonzero(one))
    new = [np.concatenate([off[by][i][one] for by in ("build", "system", "model")]) for i in range(2)]
    thrice = np.tile(np.flatnonzero(one), 3)
    quantities = tuple(enumerate(("tpot", "ttft")))
    known = {name: wider(served, off["configuration"][i][one], seen=True) for i, name in quantities}
    wide = {name: widest(q.p, thrice, new[i]) for i, name in quantities}
    intervals: dict[str, Any] = {"calibrated": {}, "transferred": {}}
    for i, name in quantities:
        intervals["calibrated"][name] = interval(off["configuration"][i][one], widths(served, known[name]))
        intervals["transferred"][name] = interval(new[i], np.tile(widths(served, wide[name]), 3))
    for label, mask in (("disaggregated", ~one & ~agg), ("assumed division", ~one & agg)):
        some_rows = q.p.take(np.flatnonzero(mask))
        intervals[label] = {name: interval(off["configuration"][i][mask], widths(some_rows, wide[name]))
                            for i, name in quantities}  # fmt: skip
    about = {
        "source": "serving measurements of InferenceX as sampled by AIConfigurator (Apache-2.0), "
        f"{len(q.tpot)} rows of {Path(args.data).name}; fitted by benchmarks/fit/serving.py",
        "date": args.date,
    }
    seen = {
        "engine": sorted({r.engine for r in q.p.rows}),
        "system": sorted({r.system.lower() for r in q.p.rows}),
        "model": sorted({unquantized(m) for m in q.p.models}),
    }
    steps = {
        **about,
        "intervals": {basis: interval(tpot, np.ones(len(tpot))) for basis, tpot in
                      (("calibrated", off["configuration"][0][one]), ("transferred", new[0]))},
        "seen": seen,
        "corrections": {name: coefficients.pop(name) for name in STEPS},
    }
    return steps, {
        **about,
        "rows": {"agg": int(agg.sum()), "disagg": int((~agg).sum()), "left out of fitting": int((q.weight == 0).sum())},
        "errors": {
            f"held out by {by}": {
                "tpot": {k: round(v, 4) for k, v in errors(a[one], q.tpot[one]).items()},
                "ttft": {k: round(v, 4) for k, v in errors(b[one], q.ttft[one]).items()},
            }
            for by, (a, b) in results.items()
        },
        "intervals": intervals,
        "wider": {"calibrated": known, "transferred": wide},
        "coefficients": coefficients,
    }


def write(data: dict[str, Any], path: Path, title: str) -> None:
    """The file, a table a line."""
    import yaml

    lines = [f"# {title} Written by benchmarks/fit/serving.py; do not edit by hand."]
    for key, value in data.items():
        if key in ("corrections", "coefficients", "intervals", "wider", "errors", "seen"):
            lines.append(f"{key}:")
            for name, entry in value.items():
                lines.append(f"  {name}:")
                items = entry.items() if isinstance(entry, dict) else [("", entry)]
                for sub, table in items:
                    flow = yaml.safe_dump(table, default_flow_style=True, width=10**6).strip().removesuffix("\n...")
                    lines.append(f"    {sub}: {flow}" if sub else f"    {flow}")
        else:
            lines.append(yaml.safe_dump({key: value}, width=100).strip())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
