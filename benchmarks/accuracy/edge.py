"""Errors of llama.cpp's and MLX's recorded rates with whole devices left out, as docs/accuracy.md gives them.

    python -m benchmarks.accuracy.edge edge_dev.parquet

Every device is left out in turn, its backend fitted to the rest (benchmarks/fit/edge.py), and predicted. Rows that
nothing answers count as 100 % error.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from benchmarks.fit.edge import BACKENDS, KERNELS, Array, applied, first, fitted, interval, keys, left_out, median
from benchmarks.fit.edge_table import flat

from tierwise.cost.kits import Kit
from tierwise.measure.edge import check, works
from tierwise.measure.ops import read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path)
    table = read(parser.parse_args().table)
    everything, done, found = works(table), dict[str, Kit](), dict[str, dict[str, Array]]()
    for name, b in BACKENDS.items():
        ws = [w for w in everything if b.keep(w)]
        if ws:
            start, names, f = first(name, b, done), keys(ws, b), flat(ws, KERNELS)
            x = fitted(f, np.full(len(f.measured), True), start, names)
            done[name] = applied(start, names, x, np.inf)
            found[name] = left_out(f, start, names)
    a = check(table)
    for phase in ("decode", "prefill"):
        unanswered = int((~np.isfinite(a.predicted[a.phase == phase])).sum())
        table_of(phase, found, unanswered)


def table_of(phase: str, found: dict[str, dict[str, Array]], unanswered: int) -> None:
    """A line for each backend, and all of them with the rows that were not answered."""
    every: list[Array] = []
    for name, held in found.items():
        rows = [r for k, r in held.items() if k.endswith(phase)]
        if rows:
            r = np.concatenate(rows)
            low, high = interval(held, phase)
            every.append(np.abs(r - 1.0))
            inside, each = np.mean((r >= low) & (r <= high)), np.median([median(x) for x in rows])
            print(f"{name:14s} {phase:8s} devices {len(rows):3d} rows {len(r):5d} median {median(r):6.1%} "
                  f"by device {each:6.1%} in 80 % {inside:4.0%}")  # fmt: skip
    errors = np.concatenate([*every, np.ones(unanswered)])
    print(f"{'all':14s} {phase:8s} rows {len(errors):5d} median {np.median(errors):6.1%} ({unanswered} not answered)")


if __name__ == "__main__":
    main()
