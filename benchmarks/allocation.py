"""Static allocation of the shared instances: the exact search beside greedy orders, as heights over the bound.

python benchmarks/allocation.py FILE... [--seconds 60]

With --order, graphs (*.onnx) in a scratchpad: what moves beyond the compulsory bytes, beside what two usual schedules
move, as rows of a table. --capacity: bytes, or "least", room for the largest operator.

python benchmarks/allocation.py --order FILE.onnx... [--capacity least] [--separate] [--seconds 60]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from tierwise.core.numerics import fmt
from tierwise.core.units import parse
from tierwise.memory.packing import first_fit, live, orders, pack, read, verified
from tierwise.memory.spilling import scheduled
from tierwise.memory.tensors import FUSED, graph, model_ops
from tierwise.models.load import load_model
from tierwise.scenario.types import Plan

NAMES = ("area", "lifetime, size", "size, lifetime", "start", "as they come")


def main() -> None:
    p = argparse.ArgumentParser()
    p.add_argument("files", nargs="+", type=Path)
    p.add_argument("--seconds", type=float, default=60.0)
    p.add_argument("--order", action="store_true")
    p.add_argument("--capacity", default="least")
    p.add_argument("--separate", action="store_true")
    p.add_argument("--format", default="int8")
    a = p.parse_args()
    if a.order:
        return ordered(a)
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


def ordered(a: argparse.Namespace) -> None:
    print("| graph | operators | arena kB | first-fit kB | Belady kB | ours kB | bound kB | saved | s |")
    print("|---|---|---|---|---|---|---|---|---|")
    shares = []
    for path in a.files:
        ops = model_ops(load_model(str(path)), Plan(), rules=None if a.separate else FUSED)
        g = graph(ops, fmt(a.format))
        capacity = max(g.working) if a.capacity == "least" else int(parse(a.capacity, "bytes", "--capacity"))
        found = scheduled(g, capacity, a.seconds)
        assert found.best.offsets is not None and verified(found.best.stays, found.best.offsets, capacity)
        saved = 1.0 - found.best.traffic / found.first_fit if found.first_fit else None
        shares += [] if saved is None else [saved]
        moved = (found.first_fit, found.belady, found.best.traffic, found.bound)
        cells = [path.stem, len(g.tasks), *(f"{x / 1e3:,.0f}" for x in (capacity, *moved)),
                 "none to save" if saved is None else f"{100 * saved:.0f} %", f"{found.seconds:.1f}"]  # fmt: skip
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)
    if shares:
        print(f"mean saved over {len(shares)} graphs with something to save: {100 * np.mean(shares):.0f} %")


if __name__ == "__main__":
    main()
