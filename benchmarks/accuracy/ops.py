"""How far predictions of single operations are from measurements: ``python -m benchmarks.accuracy.ops [FILE…]``.

Per op, device, format and engine: rows, answered, median, mean and 90th percentile of the relative error, and how
many measurements fall into the 80 % interval. ``--leave-out``: each device predicted by coefficients fitted without
it. ``--json OUT`` writes the numbers.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
from benchmarks.fit.common import SHARED  # noqa: E402

from tierwise.measure.ops import kind_of, predict, read, summary  # noqa: E402
from tierwise.report.accuracy import show  # noqa: E402


def main() -> int:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("files", nargs="*", type=Path, help="all of the shared op measurements unless given")
    ask.add_argument("--leave-out", action="store_true")
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
        without = None
        if args.leave_out:
            name = kind.__name__.rsplit(".", 1)[1].replace("custom_allreduce", "collective")
            fit = importlib.import_module(f"benchmarks.fit.{name}")
            without = {str(s): fit.leave_out(str(s)) for s in np.unique(table["system"].astype(str))}
        lines += summary(table, predict(table, kind, without), kind)
    show(lines, args.json)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
