"""A recording in a few numbers: what clients waited for, and how fast the server was."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table

from tierwise.core.units import seconds
from tierwise.measure.observe import Recording

Floats = NDArray[np.float64]
QUANTILES = {"median": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0}
NAMES = {"ttft": "TTFT", "tpot": "TPOT", "itl": "between pieces", "latency": "latency"}


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
    """The same as :func:`show`, for machines; seconds and tokens, null for what there is none of."""
    span = found.end - found.start
    done = found.answered
    return {
        "requests": len(done), "failed": len(found.failed), "unsent": found.unsent, "stopped": found.stopped or None,
        "seconds": span, "requests_per_second": len(done) / span,
        "prompt_tokens_per_second": sum(r.prompt for r in done) / span,
        "output_tokens_per_second": sum(r.output for r in done) / span,
        **{name: _spread(x) for name, x in times(found).items()},
    }  # fmt: skip


def show(found: Recording, out: Console) -> None:
    """Tables for people: waits, rates, and what went wrong."""
    n, said = numbers(found), found.server
    whose = f"{said.engine} {said.version}".strip() or "a server without metrics"
    out.print(f"{said.model} at {said.client.name} ({whose}, {said.endpoint}): {n['requests']:,} requests answered in "
              f"{n['seconds']:.1f} s, {n['requests_per_second']:.3g} requests/s, {n['output_tokens_per_second']:,.4g} "
              f"tokens/s out, {n['prompt_tokens_per_second']:,.4g} tokens/s in")  # fmt: skip
    table = Table("", "mean", *QUANTILES, "largest", box=box.SIMPLE_HEAD, show_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for key, name in NAMES.items():
        if n[key]:
            table.add_row(name, *(seconds(n[key][k]) for k in ("mean", *QUANTILES, "largest")))
    out.print(table)
    for line in _remarks(found):
        out.print(line, style="yellow")


def _remarks(found: Recording) -> list[str]:
    """What a reader of the numbers must know."""
    lines = list(found.trace.notices)
    unsent = [name for name, plain in (("samples", 1), ("adapter", -1), ("priority", 0))
              if (getattr(found.trace, name) != plain).any()]  # fmt: skip
    if unsent:
        lines.append(
            f"The trace's {', '.join(unsent)} were not sent: every request asks the model itself for one answer."
        )
    if found.stopped:
        lines.append(f"Stopped: {found.stopped}; {found.unsent:,} requests were not sent or had not ended.")
    for error, n in Counter(r.error for r in found.failed).most_common(3):
        lines.append(f"{n:,} failed: {error}")
    by = Counter(r.prompt_by for r in found.answered)["words"]
    if by:
        lines.append(f"{by:,} prompts: their tokens are reckoned from their words (the server counts other texts only)")
    by = Counter(r.output_by for r in found.answered)["pieces"]
    if by:
        lines.append(f"{by:,} answers: their tokens are taken as one a piece of the stream (the server does not count)")
    wanted = found.trace.output
    short = sum(r.output < wanted[r.index] for r in found.answered)
    if short:
        lines.append(f"{short:,} answers are shorter than asked for: the model ended them")
    return lines


def _spread(x: Floats) -> dict[str, float] | None:
    if not len(x):
        return None
    spread = {name: float(v) for name, v in zip(QUANTILES, np.percentile(x, list(QUANTILES.values())), strict=True)}
    return {"mean": float(x.mean()), **spread, "largest": float(x.max())}
