"""A training step's pipeline, over many layouts at once: one forward, one backward, 64 stages, 512 micro-batches.

Every layout has its own time a stage (its share of the layers, and how fast its devices are). Prints seconds and peak
memory, and compares a few layouts with the slow reference of the tests, which plays every event.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.schedule import reference

from tierwise.schedule import order
from tierwise.schedule.play import play
from tierwise.schedule.types import Demand, Order

STAGES, MICRO_BATCHES, LAYOUTS, LAYERS, SAMPLE = 64, 512, 100_000, 126, 3


def demands(made: Order, forward: np.ndarray) -> list[Demand]:
    """Forward as given, (stages, layouts), backward twice that."""
    out = []
    for name in made.ops:
        what, stage = name.split()
        out.append(Demand(forward[int(stage)] * (2.0 if what == "backward" else 1.0)))
    return out


def layouts(n: int) -> np.ndarray:
    """Seconds of a stage's forward: 126 layers dealt out at random, a millisecond each, devices that differ by 2 %."""
    rng = np.random.default_rng(0)
    layers = rng.multinomial(LAYERS, np.full(STAGES, 1.0 / STAGES), size=n).T
    return np.asarray(1e-3 * np.maximum(layers, 1) * rng.normal(1.0, 0.02, size=(STAGES, n)))


def main() -> int:
    forward = layouts(LAYOUTS)
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun, used = time.perf_counter(), time.process_time()
    made = order("one_f_one_b", stages=STAGES, micro_batches=float(MICRO_BATCHES))
    ordered = time.perf_counter() - begun
    done = play(made, demands(made, forward), exposed=False)
    took = time.perf_counter() - begun
    used = time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    few = order("one_f_one_b", stages=STAGES, micro_batches=32.0)
    asked = demands(few, forward[:, :SAMPLE])
    quick = np.asarray(play(few, asked, exposed=False).time)
    begun = time.perf_counter()
    slow = np.asarray([reference.play(few, asked, i).time for i in range(SAMPLE)])
    plain = (time.perf_counter() - begun) / SAMPLE
    # The full length against a recurrence that knows nothing of orders, lanes or repeats.
    worst = float(np.abs(quick / slow - 1.0).max())
    for i in range(SAMPLE):
        worst = max(worst, abs(float(np.asarray(done.time)[i]) / recurrence(forward[:, i]) - 1.0))
    row = {
        "stages": STAGES,
        "micro_batches": MICRO_BATCHES,
        "layouts": LAYOUTS,
        "seconds": round(took, 2),
        "processor_seconds": round(used, 2),
        "seconds_for_the_order": round(ordered, 3),
        "layouts_per_second": round(LAYOUTS / took),
        "executions_per_second": round(LAYOUTS * 2 * STAGES * MICRO_BATCHES / took),
        "peak_gigabytes": round(peak * 1024 / 1e9, 3),
        "of_which_layouts_gigabytes": round(held * 1024 / 1e9, 3),
        "reference_seconds_a_layout_of_32_micro_batches": round(plain, 2),
        "worst_difference": worst,
    }
    print(json.dumps(row, indent=2))
    return 0 if worst < 1e-9 else 1


def recurrence(forward: np.ndarray) -> float:
    """End of the step, from the start times of every forward and backward of a 1F1B pipeline."""
    p, m = len(forward), MICRO_BATCHES
    f, b = np.zeros((p, m)), np.zeros((p, m))
    row = {s: [("f", k) for k in range(min(p - 1 - s, m))] for s in range(p)}
    for s in range(p):
        w = min(p - 1 - s, m)
        for k in range(m):
            row[s] += ([("f", w + k)] if w + k < m else []) + [("b", k)]
    at, free = [0] * p, [0.0] * p
    left = 2 * p * m
    while left:
        for s in range(p):
            while at[s] < len(row[s]):
                what, k = row[s][at[s]]
                if what == "f":
                    ready = f[s - 1, k] if s else 0.0
                    known = s == 0 or f[s - 1, k] > 0
                else:
                    ready = b[s + 1, k] if s < p - 1 else f[s, k]
                    known = ready > 0
                if not known:
                    break
                cost = float(forward[s]) * (1.0 if what == "f" else 2.0)
                free[s] = max(free[s], ready) + cost
                (f if what == "f" else b)[s, k] = free[s]
                at[s] += 1
                left -= 1
    return max(free)


if __name__ == "__main__":
    sys.exit(main())
