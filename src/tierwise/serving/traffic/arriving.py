"""The requests of one trace at the arrivals of another process."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tierwise.serving.traffic._rules import Rule
from tierwise.serving.traffic.synthetic import arrival_rule, draw, generator
from tierwise.serving.traffic.trace import Floats, Ints, Trace


def arriving(requests: Trace, arrivals: str | None = None, *, rate: float | None = None, think: Rule | None = None,
             seed: int = 0) -> Trace:  # fmt: skip
    """The same requests in the same order of sessions, which start as ``arrivals`` says.

    Args:
        arrivals: a file of ``traffic/arrivals`` with its arguments, as ``poisson:rate=3`` or ``closed:concurrency=8``;
            None keeps the trace's own.
        rate: sessions a second, if the rule does not say.
        think: seconds between an answer and the next turn (number, rule of ``traffic/lengths``, function); None
            keeps the trace's own.
    """
    rng = generator(seed)
    opens = requests.after < 0
    start, closed, source = requests.arrival[opens], requests.closed_loop, requests.source
    if arrivals is not None:
        start, closed = arrival_rule(arrivals, rate)(len(start), rng)
        source = f"{source}, {arrivals}, seed {seed}"
    waits = requests.think if think is None else np.where(opens, 0.0, draw(think, len(requests), rng, "think"))
    root, waited = rooted(requests.after, waits)
    times = start[(np.cumsum(opens) - 1)[root]] + waited
    out = replace(requests, arrival=times, think=waits, closed_loop=closed, source=source)
    return out.take(np.argsort(times, kind="stable"))


def rooted(after: Ints, waits: Floats) -> tuple[Ints, Floats]:
    """First request of each one's session (n,), and the sum of ``waits`` from there to it (n,), itself included.

    By pointer doubling: as many rounds as the longest session has binary digits.
    """
    here = np.arange(len(after))
    up, total = np.where(after < 0, here, after), np.where(after < 0, 0.0, waits)
    while True:
        further = up[up]
        if (further == up).all():
            return up, total
        total = total + total[up]  # a first request's own is 0, so it may be added again
        up = further
