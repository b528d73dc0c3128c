"""Fit what a step of an engine takes beyond its ops: ``python -m benchmarks.fit.steps FILE.csv [--write] [--date D]``.

From closed-loop serving measurements in which decoding dominates (four or more output tokens a prompt token, one pool,
no drafts): the mean time per output token is that of a decode step and of the prompt tokens that ride along. Three
numbers an engine: a factor on the ops' time, seconds a step, seconds a sequence of a rank.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares

from tierwise.core.errors import TierwiseError
from tierwise.scenario.types import Plan
from tierwise.serving.coefficients import EngineKey, calibration
from tierwise.serving.deployment import Replicas, Settings
from tierwise.serving.predict import cache_format, find_model, find_system
from tierwise.serving.pricing import step_prices
from tierwise.serving.recipes import CacheFormat, conditions
from tierwise.serving.rows import ServingRow, read_rows
from tierwise.serving.step_times import cache_in, formats_of
from tierwise.serving.steps import StepPrices
from tierwise.steps.corrections import FILE, Corrections

LEAST = 4.0


def rows(path: Path) -> list[ServingRow]:
    """Rows in which decoding dominates and nothing is drafted."""
    found, _ = read_rows(path)
    how = conditions(found)
    return [
        r
        for r, draft, unknown in zip(found, how.draft, how.draft_unknown, strict=True)
        if r.prefill is None and r.tpot and r.osl >= LEAST * r.isl and draft == 0 and unknown == 0
    ]


def priced(r: ServingRow, cache: dict[object, StepPrices]) -> tuple[float, float] | None:
    """(seconds of the ops of a mean step, sequences a rank); None where the model or machine is unknown."""
    key = (r.model, r.system, r.engine, r.dense, r.experts, r.decode)
    if key not in cache:
        try:
            model = formats_of(find_model(r.model), r.dense, r.experts)
            machine = find_system(r.system, r.decode.devices)
        except TierwiseError:
            return None
        cached = cache_in(cache_format(model, CacheFormat(int(conditions([r]).cache[0]))))
        plan = Plan(tp=float(r.decode.tp), dp=float(r.decode.dp), ep=float(r.decode.ep), kv=cached)
        cache[key] = step_prices(model, Replicas(machine, plan, settings=Settings(r.engine, max_seqs=2048)), BARE)
    p = cache[key]
    n = r.concurrency / r.decode.workers
    if n > len(p.heads) - 1:
        return None
    recorded = p.graph_sizes[np.searchsorted(p.graph_sizes, n)] if n <= p.graph_sizes[-1] else n
    at = np.arange(len(p.tokens))
    new = n * r.isl / r.osl
    tokens = np.interp(recorded, at, p.tokens[:, 0]) + np.interp(n + new, at, p.tokens[:, 0])
    tokens -= np.interp(n, at, p.tokens[:, 0])
    d = [np.interp(r.isl + r.osl / 2.0, p.decode_context, row) for row in p.decode[:, :, 0]]
    heads = np.interp(n, np.arange(len(p.heads)), p.heads[:, 0])
    return float(tokens + heads + np.interp(n, p.decode_seqs, d)), n / r.decode.dp


BARE = Corrections()


def fit(measured: np.ndarray, ops: np.ndarray, seqs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(factor, seconds a step, seconds a sequence), and the relative errors they leave."""

    def predicted(x: np.ndarray) -> np.ndarray:
        return np.exp(x[0]) * ops + 1e-3 * x[1] + 1e-6 * x[2] * seqs

    # A factor is believed as far as the rows agree on it; a tenth is what op prices are off by anyway.
    found = least_squares(lambda x: np.append(np.log(predicted(x) / measured), x[0] / 0.1), [0.0, 0.3, 3.0],
                          bounds=([-1.0, 0.0, 0.0], [1.0, 5.0, 100.0]), loss="soft_l1", f_scale=0.1)  # fmt: skip
    return found.x, predicted(found.x) / measured - 1.0


# What the closed loop's fit says about an engine whatever its clients: launching a kernel, handling a request.
LOOP = {"launch": "host.launch", "request": "host.request"}


def loop_of(engine: str) -> dict[str, float]:
    """Seconds that the closed loop's calibration gives an engine."""
    found = calibration().of([EngineKey(engine)])
    return {name: float(found[key][0]) for name, key in LOOP.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--date", default="")
    args = parser.parse_args()
    cache: dict[object, StepPrices] = {}
    by: dict[str, list[tuple[float, float, float]]] = {}
    for r in rows(args.file):
        found = priced(r, cache)
        if found is not None:
            by.setdefault(r.engine, []).append((r.tpot, *found))
    lines = ["# What steps of engines take beyond their ops. Written by benchmarks/fit/steps.py; do not edit by hand.",
             "source: serving measurements of InferenceX as sampled by AIConfigurator (Apache-2.0), rows of "
             f"{args.file.name} with {LEAST:g} or more",
             "  output tokens a prompt token and no drafts; fitted by benchmarks/fit/steps.py",
             f"date: '{args.date}'", "engines:"]  # fmt: skip
    found_lines: list[str] = []
    for engine, values in sorted(by.items()):
        measured, ops, seqs = np.asarray(values).T
        x, error = fit(measured, ops, seqs)
        low, high = np.quantile(1.0 / (1.0 + error), [0.1, 0.9])
        bare = np.median(np.abs(ops / measured - 1.0))
        print(
            f"{engine}: {len(values)} rows, factor {np.exp(x[0]):.3f}, {x[1]:.3f} ms a step, {x[2]:.1f} us a sequence; "
            f"median error {np.median(np.abs(error)):.3f} (ops alone {bare:.3f}), 80 % within {low:.3f} to {high:.3f}"
        )
        numbers = {"factor": np.exp(x[0]), "gap": round(1e-3 * x[1], 6), "sequence": round(1e-6 * x[2], 8),
                   "rows": len(values), "median": np.median(np.abs(error))}  # fmt: skip
        said = ", ".join(f"{k}: {v:.4g}" for k, v in numbers.items())
        loop = loop_of(engine)
        said += ", " + ", ".join(f"{k}: {v:.9g}" for k, v in loop.items())
        found_lines.append(f"  {engine}: {{{said}, interval: [{low:.3f}, {high:.3f}]}}")
    base, other = calibration(), lines.pop()
    lines += [f"seen: {json.dumps({k: sorted(v) for k, v in base.seen.items()})}", other, *found_lines]
    others = ", ".join(f"{name}: {base.base[key]:.9g}" for name, key in LOOP.items())
    lines += ["# An engine that was not measured: factor, gap and interval of the middle of those that were.",
              f"others: {{{others}}}"]  # fmt: skip
    if args.write:
        FILE.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
