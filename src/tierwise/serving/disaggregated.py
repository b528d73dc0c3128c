"""Disaggregated serving: some engines prefill, others decode, and each request visits one of both.

A closed network of two stations: requests in flight are prefilling (a queue with several servers) or decoding (all
together, slower the more they are). The queue is that of approximate mean value analysis (Schweitzer, 1979; servers
as in Seidmann et al., 1987), in which a server takes together the prompts that wait, as far as a pass has room for
them. All arrays have shape (n,); flight and servers are per decoding engine.
"""

from __future__ import annotations

import numpy as np

from tierwise.serving.steady import (
    DAMPING,
    LEAST_DECODING,
    PARTS,
    ClosedLoopClients,
    Coefficients,
    Steady,
    prefill_at,
    prefill_seconds,
    request_seconds,
    step_curve,
    tokens_accepted,
)
from tierwise.serving.step_times import Array, ClosedLoopPoint, StepTimes


def disaggregated(
    point: ClosedLoopPoint, times: StepTimes, client: ClosedLoopClients, servers: Array, coef: Coefficients,
    rounds: int = 40, start: Steady | None = None,
) -> Steady:  # fmt: skip
    """TTFT and TPOT of disaggregated deployments.

    Args:
        point, times: of the decoding engine, with ``times.prefill`` that of a prefilling one.
        servers: prefilling ranks per decoding engine; each takes one pass of prompts at a time, of those that wait.
        rounds: of the fixed point, damped by half; ``start``: a solution close by, where it begins.
    """
    accepted = tokens_accepted(coef["accept"], point.draft)
    ranks = point.flight / point.dp
    limit = np.maximum(np.minimum(ranks, times.room), 1.0)
    request = request_seconds(point, client, coef) + coef["disaggregated.request"]
    prefill = coef["disaggregated.prefill"] * prefill_seconds(point, times, client, coef)
    most = np.maximum(np.minimum(client.budget / point.isl, point.flight / servers), 1.0)
    full = prefill_at(prefill, most)
    first = coef["burst"] * full * np.maximum(point.flight / servers / most - 1.0, 0.0) / 2.0 / client.waves
    # Each decoding engine has a share of one server at the least.
    spare = np.maximum(servers - 1.0, 0.0)
    if start is None:
        active, ttft = limit, request + prefill_at(prefill, np.ones_like(ranks))
    else:
        active, ttft = start.parts["active"], start.ttft
    curve = step_curve(point, times, coef)
    for _ in range(rounds):
        tpot = coef["disaggregated.decode"] * curve.seconds(active) / accepted
        decode = point.osl * tpot
        queue = point.flight * (ttft - request) / (ttft + decode)
        others = np.maximum(queue * (1.0 - 1.0 / np.maximum(point.flight, 1.0)) - spare, 0.0)
        each = np.minimum(np.maximum(others / servers, 1.0), most)
        own = prefill_at(prefill, each)
        response = own * (1.0 + others / servers / each)
        crowd = np.maximum(ranks / limit - 1.0, 0.0) * decode
        waited = np.maximum(response + first, crowd)
        ttft = DAMPING * ttft + (1.0 - DAMPING) * (request + tpot * accepted + waited)
        active = np.maximum(np.minimum(ranks * decode / (ttft + decode), limit), LEAST_DECODING)
    found = {"request": request, "own pass": own, "queue": waited - own, "first wave": first, "step": tpot * accepted,
             "active": active, "prompts of a pass": each}  # fmt: skip
    return Steady(ttft, tpot, {name: found.get(name, np.zeros_like(ttft)) for name in PARTS})
