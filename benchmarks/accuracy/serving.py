"""How far predictions of serving are from measurements: ``python -m benchmarks.accuracy.serving [FILE…]``.

By mode, model, machine, engine, precision and basis: rows, median, mean and 90th percentile of the relative error of
TPOT and TTFT, and how many measurements fall into the 80 % interval. ``--held-out build|system|model|config``: fitted
anew without each engine build, machine, architecture or fifth of the configurations in turn, which takes minutes.
``--json OUT`` writes every row's prediction.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.fit import serving as fit  # noqa: E402
from benchmarks.fit.common import SHARED  # noqa: E402

from tierwise.report.validation.serving import validate  # noqa: E402


def main() -> int:
    """Report; 1 when there is nothing to compare with."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("files", nargs="*", type=Path, help="the shared serving measurements unless given")
    ask.add_argument("--held-out", action="append", choices=("build", "system", "model", "config"))
    ask.add_argument("--json", type=Path)
    args = ask.parse_args()
    files = args.files or sorted((SHARED / "data/serving").glob("*.csv"))
    if not files:
        print(f"no measurements under {SHARED.name}/data/serving", file=sys.stderr)
        return 1
    if args.held_out:
        for path in files:
            by = ["configuration" if name == "config" else name for name in args.held_out]
            fit.main([str(path), *(x for name in by for x in ("--by", name))])
    else:
        validate(files, args.json)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
