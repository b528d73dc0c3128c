"""A trace for people: what it asks for, and its arrivals over time as a line of bars."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from tierwise.core.units import seconds
from tierwise.report.numbers import things
from tierwise.report.plain import plain, put_json
from tierwise.serving.traffic.summary import Lengths, rates, summarized
from tierwise.serving.traffic.trace import Floats, Trace

BARS = "▁▂▃▄▅▆▇█"
WIDTH = 60


def show_traffic(requests: Trace, to: str | None = None) -> None:
    """Print the summary of a trace, as text or, where ``to`` names a file, as JSON."""
    if put_json(to, traffic_row(requests)):
        return
    s = summarized(requests)
    print(requests.source)
    sessions = f" in {things(s.sessions, 'session')}" if s.sessions != s.requests else ""
    many = things(s.requests, "request") + sessions
    if s.closed_loop:
        print(f"  {many}, a closed loop with {s.closed_loop:,} in flight")
    else:
        rate = "all at once" if math.isnan(s.rate) else f"over {seconds(s.duration)}, {s.rate:.3g} requests/s"
        print(f"  {many} {rate}" + ("" if math.isnan(s.cv) else f", CV {s.cv:.2f}"))
    print(_lengths("prompt", s.prompt))
    print(_lengths("output", s.output))
    if not math.isnan(s.shared):
        print(f"  {s.shared:.1%} of prompt tokens stand in blocks of {requests.block_size} seen before "
              "(what an unbounded prefix cache answers)")  # fmt: skip
    if len(s.tenants) > 1:
        print("  tenants: " + ", ".join(f"{name} {share:.1%}" for name, share in s.tenants.items()))
    if s.duration > 0 and not s.closed_loop:
        line = rates(requests, WIDTH)
        bar = seconds(s.duration / WIDTH)
        print(f"  arrivals {sparkline(line)} {line.min():.3g} to {line.max():.3g} requests/s, a bar is {bar}")
    for notice in requests.notices:
        print(f"  note: {notice}")


def traffic_row(requests: Trace) -> dict[str, Any]:
    """The summary as plain JSON; null for what is not known."""

    row: dict[str, Any] = plain(asdict(summarized(requests)))
    return row | {"source": requests.source, "notices": list(requests.notices)}


def sparkline(values: Floats) -> str:
    """One bar a value, the highest full."""
    top = float(values.max()) or 1.0
    return "".join(BARS[min(int(v / top * len(BARS)), len(BARS) - 1)] for v in values)


def _lengths(name: str, tokens: Lengths) -> str:
    return (f"  {name} tokens: mean {tokens.mean:,.0f}, median {tokens.p50:,.0f}, p99 {tokens.p99:,.0f}, "
            f"largest {tokens.most:,.0f}")  # fmt: skip

