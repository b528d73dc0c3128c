"""A plain replay of one engine in Python, as slow as it is easy to read: what the compiled loop is checked against."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tierwise.serving.steps import StepPrices


@dataclass
class Sequence_:
    """A request in the engine: tokens computed so far, tokens planned to come out of steps put together so far."""

    prompt: int
    output: int
    planned: int = 0
    yielded: int = 0


@dataclass(frozen=True)
class Step:
    """(request, tokens, tokens before them) of each sequence in it, decoding ones first and apart."""

    decoding: tuple[tuple[int, int], ...]
    chunks: tuple[tuple[int, int, int], ...]


def bilinear(x: np.ndarray, y: np.ndarray, table: np.ndarray, a: float, b: float) -> float:
    """Seconds of a table at (a, b), linear between its points."""
    i = min(max(int(np.searchsorted(x, a, "right")) - 1, 0), len(x) - 2)
    j = min(max(int(np.searchsorted(y, b, "right")) - 1, 0), len(y) - 2)
    u, v = (a - x[i]) / (x[i + 1] - x[i]), (b - y[j]) / (y[j + 1] - y[j])
    low = table[i, j, 0] * (1 - v) + table[i, j + 1, 0] * v
    high = table[i + 1, j, 0] * (1 - v) + table[i + 1, j + 1, 0] * v
    return float(low * (1 - u) + high * u)


def seconds(p: StepPrices, step: Step, yields: int) -> float:
    """A step's time, as the docstring of StepPrices writes it."""
    d, new = len(step.decoding), sum(q for _, q, _ in step.chunks)
    tokens, replayed = d + new, False
    if (not new or tokens <= p.mixed_graphs) and len(p.graph_sizes) and tokens <= p.graph_sizes[-1]:
        tokens, replayed = int(p.graph_sizes[np.searchsorted(p.graph_sizes, tokens)]), True
    device = p.tokens[tokens, 0] + p.heads[yields, 0] + p.gap_sequence * yields
    if d:
        table = p.decode if p.decode_mixed is None or not new else p.decode_mixed
        context = sum(c for _, c in step.decoding) / d
        device += bilinear(p.decode_seqs, p.decode_context, table, d, context)
    device += sum(bilinear(p.prefill_new, p.prefill_context, p.prefill, q, c) for _, q, c in step.chunks)
    host = p.host[0] + p.host[1] * (d + len(step.chunks)) + p.host[2] * len(step.chunks) + p.host[3] * new
    launched = device if replayed else float(np.hypot(device, p.launch if p.joined else 0.0))
    launched = launched if replayed or p.joined else max(launched, p.launch)
    return float(max(launched, host) if p.ahead else launched + host)


def replay(
    arrival: Sequence[float], prompt: Sequence[int], output: Sequence[int], p: StepPrices, max_seqs: int, budget: int
) -> dict[str, np.ndarray]:
    """First come, first served, chunked prefill, memory for all. Times of each request in seconds, shape (n,).

    With ``p.ahead`` the next step is put together when one begins, from what is known then.
    """
    n = len(arrival)
    out = {k: np.full(n, np.nan) for k in ("scheduled", "first", "last")}
    seqs = [Sequence_(a, b) for a, b in zip(prompt, output, strict=True)]
    queue = deque(int(i) for i in np.argsort(arrival, kind="stable"))
    running: list[int] = []
    steps = 0

    def compose(now: float) -> Step:
        left, decoding, chunks = budget, [], []
        for i in running:
            s = seqs[i]
            if s.planned >= s.prompt:
                if s.planned < s.prompt + s.output - 1 and left:
                    decoding.append((i, s.planned))
                    s.planned, left = s.planned + 1, left - 1
            elif left:
                q = min(s.prompt - s.planned, left)
                chunks.append((i, q, s.planned))
                s.planned, left = s.planned + q, left - q
        while queue and left and len(running) < max_seqs and arrival[queue[0]] <= now:
            i = queue.popleft()
            running.append(i)
            out["scheduled"][i] = now
            q = min(seqs[i].prompt, left)
            chunks.append((i, q, 0))
            seqs[i].planned, left = q, left - q
        return Step(tuple(decoding), tuple(chunks))

    now, coming = 0.0, None
    while queue or running:
        step = coming if coming is not None and (coming.decoding or coming.chunks) else compose(now)
        if not step.decoding and not step.chunks:
            now, coming = float(arrival[queue[0]]), None
            continue
        coming = compose(now) if p.ahead else None
        ends = [i for i, _ in step.decoding] + [i for i, q, c in step.chunks if c + q == seqs[i].prompt]
        # Logits of a chunk that does not end its prompt are computed too.
        now += seconds(p, step, len(step.decoding) + len(step.chunks))
        steps += 1
        for i in ends:
            s = seqs[i]
            s.yielded += 1
            if s.yielded == 1:
                out["first"][i] = now
            if s.yielded == s.output:
                out["last"][i] = now
                running.remove(i)
    return {**out, "steps": np.asarray(steps)}
