"""Static allocation of the shared instances: the exact search beside greedy orders, as heights over the bound.

python benchmarks/allocation.py FILE... [--seconds 60]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from tierwise.memory.packing import first_fit, live, orders, pack, read, verified

NAMES = ("area", "lifetime, size", "size, lifetime", "start", "as they come")


def main() -> None:
    p = argparse.ArgumentParser()
    p.add_argument("files", nargs="+", type=Path)
    p.add_argument("--seconds", type=float, default=60.0)
    a = p.parse_args()
    for path in a.files:
        b = read(path)
        bound = live(b)
        capacity = int(path.stem.rsplit(".", 1)[-1])
        greedy = {}
        began = time.perf_counter()
        for name, order in zip(NAMES, orders(b), strict=True):
            greedy[name] = float(np.max(first_fit(b, order) + b.size)) / capacity
        took = time.perf_counter() - began
        found = pack(b, capacity, a.seconds)
        held = found.offsets is not None and verified(b, found.offsets, capacity)
        print(f"{path.name}: {len(b)} buffers, live {bound / capacity:.3f} of the capacity")
        print("  first fit by " + ", ".join(f"{k} {v:.3f}" for k, v in greedy.items()) + f" ({took:.2f} s together)")
        said = f"{found.status} ({'verified' if held else 'none'}) in {found.seconds:.1f} s"
        print(f"  search: {said}, {found.nodes:,} nodes")


if __name__ == "__main__":
    main()
