"""A recording in a few numbers: what clients waited for, and how fast the server was."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tierwise.measure.observe import Recording

Floats = NDArray[np.float64]
QUANTILES = {"median": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0}


def times(found: Recording) -> dict[str, Floats]:
    """Seconds, one value an answered request (of ``itl``: one a gap; of ``tpot``: of answers of two tokens or more).

    TPOT is the time from the first to the last token over the tokens that came after the first.
    """
    done = found.answered
    sent, first, last = (np.array(x, np.float64) for x in (
        [r.sent for r in done], [r.times[0] for r in done], [r.times[-1] for r in done]))  # fmt: skip
    output = np.array([float(r.output) for r in done])
    long = output > 1
    gaps = [np.diff(r.times) for r in done]
    return {
        "ttft": first - sent,
        "tpot": (last - first)[long] / (output[long] - 1.0),
        "itl": np.concatenate(gaps) if gaps else np.zeros(0),
        "latency": last - sent,
    }


def numbers(found: Recording) -> dict[str, Any]:
    """Waits, rates and what went wrong; seconds and tokens, null for what there is none of."""
    span = found.end - found.start
    done = found.answered
    return {
        "requests": len(done), "failed": len(found.failed), "unsent": found.unsent, "stopped": found.stopped or None,
        "seconds": span, "requests_per_second": len(done) / span,
        "prompt_tokens_per_second": sum(r.prompt for r in done) / span,
        "output_tokens_per_second": sum(r.output for r in done) / span,
        **{name: _spread(x) for name, x in times(found).items()},
    }  # fmt: skip


def _spread(x: Floats) -> dict[str, float] | None:
    if not len(x):
        return None
    spread = {name: float(v) for name, v in zip(QUANTILES, np.percentile(x, list(QUANTILES.values())), strict=True)}
    return {"mean": float(x.mean()), **spread, "largest": float(x.max())}
