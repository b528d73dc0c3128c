"""What all training frameworks share, fitted to recorded steps of dense models.

    python -m benchmarks.fit.training_families FILE... [--write]

Of a device family, what products in 16 bits take over short runs of them: what is best for all frameworks that were
recorded on it together, each with coefficients of its own, and every framework counting the same. In fewer bits, over
the frameworks that were recorded in both (else it answers for all the rest). Of the library of collectives, how much
longer work takes while they run beside it: what is best for all families and frameworks together of which enough runs
divide every layer over all devices; and how much of gradients' averaging shows: of those of which enough runs average
them from node to node.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from benchmarks.fit.training import (
    START,
    Array,
    Start,
    _certain,
    _routed,
    changed,
    fit,
    groups_of,
    predicted,
    priced_once,
    rows_of,
    usable,
    weights_of,
)
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from tierwise.measure.training import TrainingGroup, TrainingRows, measured, table
from tierwise.training.recipe import FAMILIES, sustained

MATMUL, SHARE = (0.8, 1.5), {"contended": (0.0, 4.0), "exposed": (0.0, 1.0)}
LOW = {"low": (0.9, 1.5)}
FREE = {"contended": (1.3, 3.0), "exposed": (0.3, 3.3)}
# Rows of a family and framework from which its factor of products is told, and from which a framework is fitted.
FEW, ENOUGH = 8, 20


@dataclass(frozen=True)
class Recorded:
    """A framework's dense models on one family's devices: which rows, what was measured, and what each counts."""

    name: str
    family: str
    groups: Sequence[TrainingGroup]
    at: NDArray[np.bool_]
    m: Array
    weight: Array

    def held(self, factors: Mapping[str, float]) -> dict[str, float]:
        """A framework's coefficients that stand for other ones of the family."""
        mine = sustained(self.family)
        return {k: v / getattr(mine, k, 1.0) for k, v in factors.items()}

    def fitted(self, held: Mapping[str, float], free: Start) -> dict[str, float]:
        def predict(v: Mapping[str, float], rows: Any = None) -> Array:
            return predicted(self.groups, len(self.m), lambda f: changed(f, {**v, **held}))

        return fit(predict, {**START, **free}, self.m, self.at, self.weight)

    def loss(self, held: Mapping[str, float], free: Start) -> float:
        """The error that is left where some coefficients are held and a framework's own fitted."""
        values = self.fitted(held, free)
        p = predicted(self.groups, len(self.m), lambda f: changed(f, {**values, **held}))
        return float(np.average(np.abs(np.log(p[self.at] / self.m[self.at])), weights=self.weight[self.at]))


def main(argv: Sequence[str]) -> None:
    p = argparse.ArgumentParser()
    p.add_argument("files", nargs="+", type=Path)
    p.add_argument("--write", action="store_true")
    a = p.parse_args(argv)
    priced_once()
    rows = rows_of(a.files)
    whole = table(rows)
    t = table([r for r, ok in zip(rows, usable(whole, measured(whole)), strict=True) if ok])
    names = sorted({(g.how.name, g.system.device.family) for g in t.groups})
    dense = [r for r in (recorded(t, *name) for name in names) if r.at.sum() >= FEW]
    data = yaml.safe_load(FAMILIES.read_text())
    for family in dict.fromkeys(r.family for r in dense):
        found = products([r for r in dense if r.family == family])
        data["families"].setdefault(family, {}).update({k: float(f"{v:.3g}") for k, v in found.items()})
        print(family, data["families"][family], flush=True)
    for name, count in (("contended", sharded), ("exposed", averaging)):
        among = [r for r in dense if count(r) >= ENOUGH]
        data[name] = float(f"{shared(name, among, data['families']):.2g}")
        print(name, [(r.name, r.family, count(r)) for r in among], data[name], flush=True)
    if a.write:
        head = "".join(line + "\n" for line in FAMILIES.read_text().splitlines() if line.startswith("#"))
        FAMILIES.write_text(head + yaml.safe_dump(data, sort_keys=False, default_flow_style=None, width=120))


def sharded(r: Recorded) -> int:
    """Rows that divide every layer over all devices."""
    return sum(int((r.at[g.rows] & (np.broadcast_to(g.layout.zero, len(g.rows)) >= 3)).sum()) for g in r.groups)


def averaging(r: Recorded) -> int:
    """Rows that average gradients over replicas on several nodes."""
    out = 0
    for g in r.groups:
        x = g.layout
        apart = (x.dp > 1) & (x.devices > g.system.per_node) & (np.asarray(x.zero) < 3)
        out += int((r.at[g.rows] & np.broadcast_to(apart, len(g.rows))).sum())
    return out


def shared(name: str, among: Sequence[Recorded], families: Mapping[str, Mapping[str, float]]) -> float:
    """A share that is the same everywhere, with a family's factor of products held."""

    def losses(x: float) -> list[float]:
        free = {k: v for k, v in FREE.items() if k != name}
        return [r.loss(r.held({"matmul": families[r.family]["matmul"]}) | {name: x}, free) for r in among]

    return least(losses, SHARE[name])


def products(some: Sequence[Recorded]) -> dict[str, float]:
    """Factors on the time of a family's products, in 16 bits and in fewer."""
    kinds = [{bool(g.how.recipe.low) for g in r.groups if r.at[g.rows].any()} for r in some]
    wide = [r for r, kind in zip(some, kinds, strict=True) if False in kind]
    both = [r for r, kind in zip(some, kinds, strict=True) if kind == {False, True}]
    found: dict[str, float] = {}
    if wide:
        found["matmul"] = least(lambda x: [r.loss(r.held({"matmul": x}), FREE) for r in wide], MATMUL)
    low = [r.fitted(r.held(found), {**FREE, **LOW})["low"] * sustained(r.family).low for r in both]
    return found | ({"low": float(np.exp(np.mean(np.log(low))))} if low else {})


def least(losses: Callable[[float], Sequence[float]], bounds: tuple[float, float]) -> float:
    """Where the sum of losses is least; each is printed on the way."""

    def total(x: float) -> float:
        each = losses(x)
        print(f"  {x:.3f}", [float(f"{y:.4f}") for y in each], flush=True)
        return sum(each)

    return float(minimize_scalar(total, bounds=bounds, method="bounded", options={"xatol": 0.01}).x)


def recorded(t: TrainingRows, name: str, family: str) -> Recorded:
    groups = [g for g in t.groups if (g.how.name, g.system.device.family) == (name, family)]
    dense, at = ~_routed(t) & _certain(t), np.zeros(len(t), dtype=bool)
    for g in groups:
        at[g.rows] = dense[g.rows]
    source = np.asarray([str(x) for x in t.columns.get("source", np.full(len(t), "vtrain", dtype=object))])
    weight = weights_of(groups_of(t), at, source) if at.any() else np.zeros(len(t))
    return Recorded(name, family, groups, at, measured(t), weight)


if __name__ == "__main__":
    main(sys.argv[1:])
