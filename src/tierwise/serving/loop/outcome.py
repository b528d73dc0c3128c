"""From the loop's sums to the series people read."""

from __future__ import annotations

import numpy as np

from tierwise.serving.loop.layout import BINS, COLUMNS, LoopState
from tierwise.serving.outcome import Series


def series(state: LoopState, end: float) -> Series:
    """Sums over the bins as means and rates; the last bin is as wide as the run lets it be."""
    width = float(state.cluster["width"][0])
    k = min(BINS, max(1, int(np.ceil(end / width))))
    edges = np.minimum(np.arange(k + 1) * width, max(end, width * 1e-9))
    span = np.maximum(np.diff(edges), 1e-12)
    column = dict(zip(COLUMNS, state.series[:k].T / span, strict=True))
    # Of the blocks in use, wherever they are: a replica that holds little counts little.
    column["fragmentation"] = column["fragmentation"] / np.maximum(column["kv"], 1e-12)
    for name in ("kv", "compute", "memory", "link"):
        # Means over the replicas that are there.
        column[name] = column[name] / np.maximum(column["replicas"], 1e-12)
    return Series(time=edges[1:], **column)


def audit(state: LoopState) -> dict[str, float]:
    """Where the KV blocks are: ``kv_lost`` are neither free, nor cached, nor held by a request (0 unless the loop is
    wrong); ``kv_peak`` is the largest share of a replica's blocks that was ever in use."""
    e, q = state.engines, state.requests
    held = np.bincount(np.maximum(q["replica"], 0), weights=q["held"], minlength=len(e))
    held += np.bincount(np.maximum(q["source"], 0), weights=q["source_held"], minlength=len(e))
    used = (state.users > 0).sum(axis=1) * e["unit"]
    lost = np.abs(e["blocks"] - e["free"] - e["spare"] - held - used)
    return {"kv_lost": float(lost.sum()), "kv_peak": float((e["peak"] / np.maximum(e["blocks"], 1)).max(initial=0.0))}
