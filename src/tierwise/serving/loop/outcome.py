"""From the loop's sums to the series and histograms people read."""

from __future__ import annotations

from typing import Any

import numpy as np

from tierwise.serving.loop.layout import BINS, COLUMNS, ITL_BINS, ITL_DECADES, ITL_LOW, State
from tierwise.serving.outcome import Series


def itl_edges() -> Any:
    """Edges of the histogram of times between tokens, in seconds."""
    return ITL_LOW * 10.0 ** (np.arange(ITL_BINS + 1) * (ITL_DECADES / ITL_BINS))


def series(state: State, end: float, up: Any) -> Series:
    """Sums over the bins as means and rates; the last bin is as wide as the run lets it be. ``up``: seconds each
    replica was up, from the start."""
    width = float(state.cluster["width"][0])
    k = min(BINS, max(1, int(np.ceil(end / width))))
    edges = np.minimum(np.arange(k + 1) * width, max(end, width * 1e-9))
    span = np.maximum(np.diff(edges), 1e-12)
    column = dict(zip(COLUMNS, state.series[:k].T / span, strict=True))
    alive = np.maximum(sum(np.clip(u - edges[:-1], 0.0, span) for u in up) / span, 1e-12)
    for name in ("kv", "fragmentation", "compute", "memory", "link"):
        column[name] = column[name] / alive
    return Series(time=edges[1:], replicas=alive, **column)
