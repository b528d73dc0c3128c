"""What a decode step of a deployment spends its time on: why one layout is faster than another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tierwise.search.answer import Answer
from tierwise.search.curves import engine_steps
from tierwise.search.engines import Engines
from tierwise.search.family import coefficients
from tierwise.serving.steady import gap_seconds
from tierwise.serving.step_times import KINDS, Array

HOST = "host"
# What a step waits because its devices draw no more than they may.
POWER = "power"


def parts(answer: Answer, rows: Sequence[int]) -> list[dict[str, float]]:
    """For each row, the share of a decode step that each class of ops takes, the host, and the cap on power (they
    add up to 1).

    Of the engines that decode, at the requests in flight of the row.
    """
    p, out = answer.points, [dict[str, float]() for _ in rows]
    index = np.asarray(rows, dtype=int)
    for i, family in enumerate(answer.families):
        mine = np.flatnonzero(p.family[index] == i)
        if not len(mine):
            continue
        some = p.take(index[mine])
        _, coef = coefficients(family)
        flight = np.maximum(some.flight / some.decodes / some.pp, some.dp)
        kinds = Engines(some.tp, some.pp, some.dp, some.ep)
        _, times = engine_steps(answer.question, family, kinds, flight, some.draft)
        seconds: dict[str, Array] = {}
        for kind, priced in zip(KINDS, times.decode[:, 0], strict=True):
            seconds[kind] = coef["ops"] * priced
        seconds[HOST] = gap_seconds(times, coef) + coef["gap_sequence"] * (1.0 + some.draft) * (flight / some.dp)
        total = np.maximum(sum(seconds.values(), 0.0 * flight), times.decode_power[0])
        if times.decode_power.any():
            seconds[POWER] = total - sum(seconds.values(), 0.0 * flight)
        for n, place in enumerate(mine):
            out[place] = {name: float(v[n] / total[n]) for name, v in seconds.items()}
    return out
