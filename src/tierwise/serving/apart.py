"""Disaggregated serving: a pool of engines prefills, another decodes, and each request visits both.

A closed network of two stations: requests in flight are prefilling (a queue with several servers) or decoding (all
together, slower the more they are). The queue is that of approximate mean value analysis (Schweitzer, 1979; servers
as in Seidmann et al., 1987). All arrays have shape (n,); flight and servers are per decoding engine.
"""

from __future__ import annotations

import numpy as np

from tierwise.serving.steady import Client, Coefficients, Steady, _accepted, _at_prompts, _prefill, _request, _step
from tierwise.serving.work import Array, Load, Work


def apart(
    load: Load,
    work: Work,
    client: Client,
    servers: Array,
    k: Coefficients,
    rounds: int = 40,
    start: Steady | None = None,
) -> Steady:
    """TTFT and TPOT of disaggregated deployments.

    Args:
        load, work: of the decoding engine, with ``work.prefill`` that of a prefilling one.
        servers: prefilling ranks per decoding engine; each takes one pass of prompts at a time.
        rounds: of the fixed point, damped by half; ``start``: a solution close by, where it begins.
    """
    accepted = _accepted(k["accept"], load.draft)
    ranks = load.flight / load.dp
    limit = np.maximum(np.minimum(ranks, work.room), 1.0)
    request = _request(load, client, k) + k["apart.request"]
    own = k["apart.prefill"] * _at_prompts(_prefill(work, k), np.ones_like(ranks))
    active, ttft = (limit, request + own) if start is None else (start.parts["active"], start.ttft)
    for _ in range(rounds):
        tpot = k["apart.decode"] * _step(load, work, k, active) / accepted
        decode = load.osl * tpot
        queue = load.flight * (ttft - request) / (ttft + decode)
        others = np.maximum(queue * (1.0 - 1.0 / np.maximum(load.flight, 1.0)) - (servers - 1.0), 0.0)
        response = own * (1.0 + others / servers)
        first = k["burst"] * own * np.maximum(load.flight / servers - 1.0, 0.0) / 2.0 / client.waves
        crowd = np.maximum(ranks / limit - 1.0, 0.0) * decode
        waited = np.maximum(response + first, crowd)
        ttft = 0.5 * ttft + 0.5 * (request + tpot * accepted + waited)
        active = np.maximum(np.minimum(ranks * decode / (ttft + decode), limit), 0.5)
    parts = {"request": request, "own pass": own, "queue": waited - own, "first wave": first, "step": tpot * accepted,
             "active": active}  # fmt: skip
    return Steady(ttft, tpot, parts)
