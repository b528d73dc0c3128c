"""Coefficients from measured runs: non-negative least squares on what Tierwise counts in their graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tierwise.cost.measured import along, describe, product_time, spilled
from tierwise.machines.profile import Class, Curve, Products, Profile
from tierwise.program.program import Program

TERMS = ("call", "step", "passes", "rate")


@dataclass(frozen=True)
class Observation:
    """One timed pass: its graph on one device, bytes of weights it reads in all, seconds."""

    name: str
    graph: Program
    working: float
    seconds: float


@dataclass(frozen=True)
class Expected:
    """What an engine's code lets one expect, to share out what the runs alone cannot tell apart.

    Attributes:
        call: seconds of one call into the engine (measured).
        rate: FLOP/s of its products (measured).
        calls: calls an op of a class takes, counted in the engine's code; ``"*"`` for all others.
        passes: how often its operands cross the memory.
    """

    call: float
    rate: float
    calls: Mapping[str, float]
    passes: Mapping[str, float]

    def of(self, kind: str, term: str) -> float:
        if term == "rate":
            return 1.0 / self.rate
        table = self.passes if term == "passes" else self.calls
        value = table.get(kind, table["*"])
        return value if term == "passes" else value * self.call


# Weight of an expectation beside one run: enough to decide between explanations that fit equally well.
_WEIGHT = 0.03


@dataclass(frozen=True)
class Solution:
    """Coefficients by op class, the slow-down of calls out of cache, and predicted over measured of every run."""

    classes: dict[str, Class]
    cold: float
    ratios: dict[str, float]

    @property
    def loss(self) -> float:
        return sum(abs(r - 1.0) for r in self.ratios.values())


def fit_classes(
    seen: Sequence[Observation],
    copy: Curve,
    products: Mapping[str, Products],
    expected: Expected,
    cold: float | None = None,
) -> Solution:
    """Coefficients that explain the runs best; ``cold`` is searched unless given."""
    tried = np.linspace(0.0, 1.5, 16) if cold is None else [cold]
    return min((_solve(seen, copy, products, expected, float(c)) for c in tried), key=lambda s: s.loss)


def _solve(
    seen: Sequence[Observation], copy: Curve, products: Mapping[str, Products], expected: Expected, cold: float
) -> Solution:
    """Non-negative least squares for one ``cold``.

    What matrix products cost is known (measured one by one) and taken off first; the rest is split among the
    classes by how much each run has of what. Relative errors count, and no coefficient is negative.
    """
    columns: dict[tuple[str, str], int] = {}
    rows = [_row(o, copy, products, columns, cold, expected.rate) for o in seen]
    known = np.array([k for k, _ in rows])
    x = np.zeros((len(rows), len(columns)))
    for i, (_, features) in enumerate(rows):
        for key, value in features.items():
            x[i, columns[key]] = value
    y = np.array([o.seconds for o in seen])
    usual = np.array([expected.of(kind, term) for kind, term in columns])
    for _ in range(3):  # an expectation that the runs refute by a factor moves towards what they say
        a = np.vstack([x / y[:, None] * usual, _WEIGHT * np.eye(len(columns))])
        solution = usual * nnls(a, np.concatenate([(y - known) / y, np.full(len(columns), _WEIGHT)]))
        usual = np.maximum(usual, solution)
    found: dict[str, dict[str, float]] = {}
    for (kind, term), j in columns.items():
        value = float(solution[j])
        if value > 0.0:
            found.setdefault(kind, {})[term] = value
    for (kind, term), j in columns.items():
        if term == "rate":
            found.setdefault(kind, {})[term] = 1.0 / (1.0 / expected.rate + float(solution[j]))
    ratio = (known + x @ solution) / y
    classes = {k: Class(**v) for k, v in sorted(found.items())}
    return Solution(classes, cold, {o.name: float(r) for o, r in zip(seen, ratio, strict=True)})


def _row(
    o: Observation,
    copy: Curve,
    products: Mapping[str, Products],
    columns: dict[tuple[str, str], int],
    cold: float,
    rate: float,
) -> tuple[float, dict[tuple[str, str], float]]:
    """(seconds of the products, what multiplies each unknown) of one observation."""
    from tierwise.cost.measured import products_of

    profile = Profile("", copy, products, {}, (1.0, 1.0), "")
    slower = 1.0 + cold * float(spilled(copy, o.working))
    known = 0.0
    out: dict[tuple[str, str], float] = {}
    for segment, op in o.graph.walk():
        n = float(segment.repeat)
        work = describe(op)
        if op.kind in ("matmul", "moe"):
            p = products_of(profile, op)
            arithmetic, read = product_time(p, work, o.working)
            known += n * (float(arithmetic + read) + p.call * float(work.parts) * slower)
            if op.kind == "matmul":
                continue
        flops = 0.0 if op.kind == "moe" or not _arithmetic(work.kind) else float(work.flops)
        known += n * flops / rate  # no kernel is faster than matrix products; what is fitted comes on top
        moved = float(work.bytes / along(copy, work.bytes))
        amounts = (float(work.calls) * slower, float(work.steps) * slower, moved, flops)
        for term, amount in zip(TERMS, amounts, strict=True):
            if amount > 0.0:
                key = (work.kind, term)
                columns.setdefault(key, len(columns))
                out[key] = out.get(key, 0.0) + n * amount
    return known, out


def _arithmetic(kind: str) -> bool:
    """Classes whose arithmetic can matter beside their traffic."""
    return kind.startswith(("attention.", "conv.")) and kind != "conv.causal"


def nnls(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """The x ≥ 0 with the least ``|a x - b|`` (active sets: Lawson and Hanson, 1974, chapter 23)."""
    scale = np.sqrt((a**2).sum(axis=0))
    scale[scale == 0.0] = 1.0
    a = a / scale
    n = a.shape[1]
    x = np.zeros(n)
    free = np.zeros(n, dtype=bool)
    for _ in range(6 * n + 20):
        slope = a.T @ (b - a @ x)
        slope[free] = -np.inf
        if free.all() or slope.max() <= 1e-10:
            break
        free[int(np.argmax(slope))] = True
        while free.any():
            s = np.zeros(n)
            s[free] = np.linalg.lstsq(a[:, free], b, rcond=1e-8)[0]
            if s[free].min() > 0.0:
                x = s
                break
            negative = free & (s <= 0.0)
            step = float(np.min(x[negative] / np.maximum(x[negative] - s[negative], 1e-300)))
            x = x + step * (s - x)
            free &= x > 1e-15
            x[~free] = 0.0
    return np.asarray(x / scale, dtype=np.float64)
