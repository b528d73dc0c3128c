"""How far predictions of single operations are from measurements: ``python -m benchmarks.accuracy.ops [FILE…]``.

Per op, device, format and engine: rows, answered, median, mean and 90th percentile of the relative error, and how
many measurements fall into the 80 % interval. ``--leave-out``: each device predicted without its own classes, by those
of its family, or where it has no measured sibling by coefficients fitted on all others (slow; ``--siblings`` leaves
such devices out). ``--leave-out-version``: each version of an engine predicted by its other versions, on devices of
families that have any. ``--short``: by op and device, and by op, device, engine and version. ``--json OUT``: numbers.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
from benchmarks.fit.carried import FILES  # noqa: E402
from benchmarks.fit.common import SHARED  # noqa: E402

from tierwise.cost.calibrate import siblings  # noqa: E402
from tierwise.machines import system  # noqa: E402
from tierwise.machines.types import Device  # noqa: E402
from tierwise.measure.ops import Predictions, Table, accuracy, groups, kind_of, predict, read, summary  # noqa: E402
from tierwise.report.accuracy import show  # noqa: E402

OPS = {file: op for op, file in FILES.items()}


def main() -> int:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("files", nargs="*", type=Path, help="all of the shared op measurements unless given")
    ask.add_argument("--leave-out", action="store_true")
    ask.add_argument("--siblings", action="store_true", help="with --leave-out: devices with measured siblings alone")
    ask.add_argument("--leave-out-version", action="store_true")
    ask.add_argument("--short", action="store_true")
    ask.add_argument("--json", type=Path)
    args = ask.parse_args()
    files = args.files or sorted((SHARED / "data/ops").glob("*.parquet"))
    if not files:
        print(f"no measurements under {SHARED.name}/data/ops", file=sys.stderr)
        return 1
    lines = []
    for path in files:
        table = read(path)
        try:
            kind = kind_of(table, path.name)
        except Exception as error:
            print(f"{path.name}: {error}", file=sys.stderr)
            continue
        if args.leave_out or args.leave_out_version:
            table, found = left_out(table, kind, OPS[path.stem], args.leave_out_version, args.siblings)
            if found is None:
                continue
        else:
            found = predict(table, kind)
        if args.short:
            short(path.stem, table, found)
        else:
            lines += summary(table, found, kind)
    if not args.short:
        show(lines, args.json)
    return 0


def left_out(
    table: Table, kind: ModuleType, op: str, versions: bool, near: bool
) -> tuple[Table, Predictions | None]:
    """The rows that can be predicted by others' classes, and those predictions."""
    devices = {str(s): system(str(s)).device for s in np.unique(table["system"].astype(str))}
    if versions:
        released = {(devices[s].family, e, v) for s, e, v in groups(table, ("system", "engine", "version"))}
        others = {x for x in released if any(y[:2] == x[:2] and y[2] != x[2] for y in released)}
        names = zip(*(table[c].astype(str) for c in ("system", "engine", "version")), strict=True)
        keep = np.asarray([(devices[s].family, e, v) in others for s, e, v in names])
        table = {c: x[keep] for c, x in table.items()}
        return table, predict(table, kind, without=lambda d, who: frozenset({who})) if keep.any() else None
    alone = {s for s, d in devices.items() if not siblings(d, op, frozenset({d.name}))}
    if near:
        keep = ~np.isin(table["system"].astype(str), sorted(alone))
        table, alone = {c: x[keep] for c, x in table.items()}, set()
        if not keep.any():
            return table, None
    name = kind.__name__.rsplit(".", 1)[1].replace("custom_allreduce", "collective")
    fit = importlib.import_module(f"benchmarks.fit.{name}")
    refitted = {s: fit.leave_out(s) for s in sorted(alone)}

    def without(device: Device, who: str) -> frozenset[str]:
        return frozenset({device.name})

    return table, predict(table, kind, refitted, without)


def short(name: str, table: Table, found: Predictions) -> None:
    """A few columns by op and device, and by device, engine and version; the interval score beside that of the one
    constant width that covers 80 % of all."""
    ratio = np.log(found.measured / found.predicted)
    low, high = np.log(found.low / found.predicted), np.log(found.high / found.predicted)
    best = np.quantile(ratio, [0.1, 0.9])

    def score(a: np.ndarray, b: np.ndarray, rows: np.ndarray) -> float:
        return float(np.mean((b - a + 10.0 * (np.maximum(a - ratio, 0.0) + np.maximum(ratio - b, 0.0)))[rows]))

    for columns in ((), ("system",), ("system", "engine", "version")):
        for key, rows in groups(table, columns).items() if columns else {("all",): np.arange(ratio.size)}.items():
            a = accuracy(found, rows)
            one = score(np.full(ratio.size, best[0]), np.full(ratio.size, best[1]), rows)
            print(f"| {name} | {' '.join(key)} | {a.rows} | {a.rows - a.answered} | {a.median:.1%} | {a.bias:.2f} | "
                  f"{a.coverage:.0%} | {score(low, high, rows):.3f} | {one:.3f} |")  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
