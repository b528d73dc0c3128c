"""How far replays of recorded serving runs are from what was measured: ``python -m benchmarks.accuracy.runs [DIR…]``.

Each run first with what is known of the engine alone, then with what ``tierwise calibrate --from-run`` finds on each
other run of the same machine. Errors of mean, median, p90, p95 and p99 of TTFT, TPOT and latency, and of the requests
running and waiting over time. ``--json OUT`` writes all of it.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.fit.common import SHARED  # noqa: E402

from tierwise.measure.fit_run import fit  # noqa: E402
from tierwise.measure.recorded import read_run  # noqa: E402
from tierwise.measure.replayed import STATISTICS, ReplayedRun, compare, data  # noqa: E402

MACHINES = Path(__file__).with_name("machines")


def machine(folder: Path) -> str:
    """The file that describes the machine of a recording, where one does: ``machines/<word>-….yaml`` for a folder named
    ``<engine>-<word>-<model>``."""
    found = [p for p in sorted(MACHINES.glob("*.yaml")) if p.stem.split("-")[0] in folder.name.split("-")]
    return str(found[0]) if found else ""


def row(c: ReplayedRun, on: str) -> str:
    """One line of a Markdown table a quantity."""
    out = []
    for name in c.measured:
        cells = " | ".join(f"{e:+.1%}" for e in c.error(name))
        out.append(f"| {c.recorded.folder.name} | {on} | {name} | {cells} |")
    for name, (measured, simulated) in c.series.items():
        off = np.mean(np.abs(simulated - measured)) / measured.mean()
        out.append(f"| {c.recorded.folder.name} | {on} | {name} over time | {off:.1%} of the mean |" + " |" * 4)
    return "\n".join(out)


def main() -> int:
    """Report; 1 when there is nothing to compare with."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("folders", nargs="*", type=Path, help="the shared runs unless given")
    ask.add_argument("--json", type=Path)
    args = ask.parse_args()
    folders = args.folders or sorted(p.parent for p in (SHARED / "data/runs").glob("*/requests.jsonl"))
    if not folders:
        print(f"no runs under {SHARED.name}/data/runs", file=sys.stderr)
        return 1
    runs = [read_run(p) for p in folders]
    print("| run | calibrated on | quantity | " + " | ".join(STATISTICS) + " |")
    print("| --- | --- | --- |" + " ---: |" * len(STATISTICS))
    found = []
    for r in runs:
        plain = compare(r, machine(r.folder))
        print(row(plain, "nothing"))
        found.append(data(plain))
    fits = {r.folder: fit(r, machine(r.folder)) for r in runs} if len(runs) > 1 else {}
    machines = {f: x.after.run.deployment.groups[0].machine.device.name for f, x in fits.items()}
    for r in runs:
        for folder, x in fits.items():
            if folder != r.folder and machines[folder] == machines[r.folder]:
                c = compare(r, machine(r.folder), x.adjustment)
                print(row(c, folder.name))
                found.append({**data(c), "calibrated on": folder.name})
    if args.json is not None:
        args.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
