"""The requests of a simulation as a table."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tierwise.serving.metrics import times
from tierwise.serving.outcome import SimulatedRun

# Names of the states, in the order of their numbers.
STATES = ("waiting", "running", "done", "rejected")


def columns(run: SimulatedRun) -> dict[str, NDArray[Any]]:
    """Columns by name, each (n,). Times in seconds, nan (null, empty) where they never were."""
    r, t, each = run.requests, run.trace, times(run)
    return {
        "request": np.arange(len(t)), "arrival_s": r.arrival, "prompt": t.prompt, "output": t.output,
        "tenant": np.array(t.tenants, dtype=object)[t.tenant], "priority": t.priority, "after": t.after,
        "samples": t.samples, "adapter": t.adapter,
        "scheduled_s": r.scheduled, "first_token_s": r.first, "last_token_s": r.last,
        "queueing_s": each.queueing, "ttft_s": each.ttft, "tpot_s": each.tpot, "latency_s": each.latency,
        "longest_gap_s": r.longest, "tokens": r.made, "cached": r.cached, "preempted": r.preempted,
        "replica": r.replica, "state": np.array(STATES, dtype=object)[r.state],
    }  # fmt: skip
