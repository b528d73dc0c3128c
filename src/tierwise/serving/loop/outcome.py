"""From the loop's sums to the series people read."""

from __future__ import annotations

import numpy as np

from tierwise.serving.loop.layout import BINS, COLUMNS, State
from tierwise.serving.outcome import Series


def series(state: State, end: float) -> Series:
    """Sums over the bins as means and rates; the last bin is as wide as the run lets it be."""
    width = float(state.cluster["width"][0])
    k = min(BINS, max(1, int(np.ceil(end / width))))
    edges = np.minimum(np.arange(k + 1) * width, max(end, width * 1e-9))
    span = np.maximum(np.diff(edges), 1e-12)
    column = dict(zip(COLUMNS, state.series[:k].T / span, strict=True))
    for name in ("kv", "fragmentation", "compute", "memory", "link"):
        # Means over the replicas that are there.
        column[name] = column[name] / np.maximum(column["replicas"], 1e-12)
    return Series(time=edges[1:], **column)
