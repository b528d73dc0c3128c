"""What `tierwise observe` says of a recording."""

from __future__ import annotations

from collections import Counter

from rich import box
from rich.console import Console
from rich.table import Table

from tierwise.core.units import seconds
from tierwise.measure.observe import Recording
from tierwise.measure.observe_numbers import QUANTILES, numbers

NAMES = {"ttft": "TTFT", "tpot": "TPOT", "itl": "between pieces", "latency": "latency"}


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
