"""What a decode step of a deployment spends its time on: why one layout is faster than another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tierwise.core.numerics import fmt
from tierwise.scenario.types import KV, Plan
from tierwise.search.answer import Answer
from tierwise.search.curves import coefficients
from tierwise.serving.work import CLASSES, Array, Load, work
from tierwise.steps.price import engine_on

HOST = "host"


def parts(answer: Answer, rows: Sequence[int]) -> list[dict[str, float]]:
    """For each row, the share of a decode step that each class of ops takes, and the host (they add up to 1).

    Of the engines that decode, at the requests in flight of the row.
    """
    p, demand, out = answer.points, answer.question.demand, [dict[str, float]() for _ in rows]
    index = np.asarray(rows, dtype=int)
    for i, family in enumerate(answer.families):
        mine = np.flatnonzero(p.family[index] == i)
        if not len(mine):
            continue
        some = p.take(index[mine])
        _, k = coefficients(family.engine, family.system, family.model)
        one = np.ones(len(some))
        flight = np.maximum(some.flight / some.decodes / some.pp, some.dp)
        load = Load(some.tp, some.dp, some.ep, flight, one * demand.prompt, one * demand.output, some.draft)
        cache = KV(key=fmt(family.kv), value=fmt(family.kv))
        plan = Plan(tp=some.tp, pp=some.pp, dp=some.dp, ep=some.ep, kv=cache)
        priced = work(engine_on(family.model, plan, family.system, family.engine), load)
        seconds = {c: k[f"decode.{c}"] * priced.decode[j, 0] for j, c in enumerate(CLASSES)}
        seconds[HOST] = _host(k, priced.kernels, priced.mixtures, flight / some.dp)
        total = sum(seconds.values(), 0.0 * one)
        for n, place in enumerate(mine):
            out[place] = {name: float(v[n] / total[n]) for name, v in seconds.items()}
    return out


def _host(k: object, kernels: Array, mixtures: Array, seqs: Array) -> Array:
    names = ("host.step", "host.kernel", "host.expert", "host.sequence")
    step, kernel, expert, sequence = (np.asarray(k[n]) for n in names)  # type: ignore[index]
    return np.asarray(step + kernel * kernels + expert * mixtures + sequence * seqs)
