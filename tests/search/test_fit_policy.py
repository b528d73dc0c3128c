"""FlexGen's policies beside an exact solver: shares by a linear program on HiGHS, sequences at once by enumeration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tierwise.evaluation import evaluate
from tierwise.machines import system
from tierwise.models.load import load_model
from tierwise.result import Result
from tierwise.search import fit_batch
from tierwise.search.fit_question import FitQuestion

linprog = pytest.importorskip("scipy.optimize").linprog
LEAST = 1e-9  # a share whose copies are there, of no size


def question(on: str, batch: float | None = None) -> FitQuestion:
    return FitQuestion(load_model("llama-2-13b"), system(on), "llama-2-13b", on, 544.0, 32.0, batch, 4.0, "throughput",
                       "kernels", ("fp16",), ())  # fmt: skip


def at(q: FitQuestion, point: np.ndarray, batch: float) -> Result:
    return evaluate(fit_batch._scenario(q, "fp16", "", *(float(x) for x in point), batch))


def linear(of: Callable[[Result], Any], q: FitQuestion, batch: float) -> tuple[np.ndarray, np.ndarray]:
    """(what each share adds: weights on the host, on the disk, caches on the host; what there is without any). What the
    first byte of a share waits for is left out, so that times are bounds."""
    base = np.asarray(of(at(q, np.zeros(3), batch)), float)
    ends = [[np.asarray(of(at(q, x * part, batch)), float) for part in (1.0, LEAST)] for x in np.eye(3)]
    return np.stack([whole - none for whole, none in ends], -1), base


def lanes(r: Result, phase: str) -> list[float]:
    """Seconds that each lane is busy over all passes of a phase."""
    p = r.phase(phase)
    busy: dict[str, float] = {"": 0.0, "copy.in": 0.0, "copy.out": 0.0}
    for x in p.ops:
        lane = x.op.stream if x.op.stream in busy else ""
        busy[lane] += float(np.max(x.time)) * float(np.max(p.passes))
    return list(busy.values())


def solved(q: FitQuestion, batch: float) -> float:
    """Least seconds that any shares take which fit, each lane alone being a bound: nothing schedules faster."""
    rows, limits = [], []
    phases = ("prefill", "decode")
    for i, name in enumerate(phases):  # variables: three shares, the time of each phase
        slope, base = linear(lambda r, name=name: lanes(r, name), q, batch)
        rows += [[*s, *(-1.0 if j == i else 0.0 for j in range(2))] for s in slope]
        limits += (-base).tolist()
    room = at(q, np.zeros(3), batch).memory
    spaces: list[tuple[Callable[[Result], Any], float]] = [(lambda r: r.memory.peak, float(room.capacity))]
    host = at(q, np.asarray([0.5, 0.1, 0.5]), batch).memory.room_elsewhere["host"]
    spaces.append((lambda r: r.memory.elsewhere.get("host", 0.0), float(host)))
    for of, most in spaces:
        slope, base = linear(of, q, batch)
        rows.append([*slope, 0.0, 0.0])
        limits.append(most - float(base))
    rows.append([1.0, 1.0, 0.0, 0.0, 0.0])
    limits.append(1.0)
    found = linprog([0, 0, 0, 1, 1], np.asarray(rows), limits, bounds=[(0, 1)] * 3 + [(0, None)] * 2, method="highs")
    return float(found.fun) if found.success else np.inf


@pytest.mark.parametrize(
    ("on", "batch"),
    [
        ("rtx3060-12gb + 64GB ddr4-3200 + nvme-gen3", 1.0),
        ("rtx3060-12gb + 64GB ddr4-3200 + nvme-gen3", 64.0),
        ("t4 + 16GB ddr4-2666 + nvme-gen4", 16.0),
    ],
)
def test_the_policy_is_within_a_tenth_of_the_exact_one(on: str, batch: float) -> None:
    q = question(on, batch)
    best = fit_batch._best(q, "fp16", "")
    least = solved(q, batch)
    assert best is not None
    taken = float(best.result.time)
    print(f"{on}, {batch:g} at once: {taken:.4g} s, at least {least:.4g} s")
    assert least <= taken * (1.0 + 1e-6)
    assert taken <= least / 0.9
