"""The closed loop's steady state for any deployments side by side, whichever way each of them serves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tierwise.serving.disaggregated import disaggregated
from tierwise.serving.steady import PARTS, ClosedLoopClients, Coefficients, Steady, aggregated
from tierwise.serving.step_times import Array, ClosedLoopPoint, StepTimes, take

# Rounds that lead to a solution from one of almost the same coefficients.
NEAR, NEAR_DISAGGREGATED = 4, 6


def closed_loop(
    point: ClosedLoopPoint, times: StepTimes, client: ClosedLoopClients, servers: Array, coef: Coefficients,
    near: Steady | None = None,
) -> Steady:  # fmt: skip
    """TTFT and TPOT of every deployment, shape (n,).

    Args:
        servers: prefilling ranks per decoding engine, see :func:`disaggregated`; 0 where engines do both.
        coef: values of shape (n,), or (1,) for all of them; ``near``: a solution for almost the same, to start from.
    """
    two = servers > 0
    if not two.any():
        if near is None:
            return aggregated(point, times, client, coef)
        return aggregated(point, times, client, coef, NEAR, near.parts["active"])
    if two.all():
        if near is None:
            return disaggregated(point, times, client, servers, coef)
        return disaggregated(point, times, client, servers, coef, NEAR_DISAGGREGATED, near)
    ttft, tpot, parts = np.zeros(two.shape), np.zeros(two.shape), {name: np.zeros(two.shape) for name in PARTS}
    for index in (np.flatnonzero(~two), np.flatnonzero(two)):
        some = {name: np.broadcast_to(values, two.shape)[index] for name, values in coef.items()}
        found = closed_loop(take(point, index), take(times, index), take(client, index), servers[index], some,
                            None if near is None else _some(near, index))  # fmt: skip
        ttft[index], tpot[index] = found.ttft, found.tpot
        for name, values in found.parts.items():
            parts[name][index] = values
    return Steady(ttft, tpot, parts)


def _some(steady: Steady, index: NDArray[np.intp]) -> Steady:
    return Steady(steady.ttft[index], steady.tpot[index], {name: v[index] for name, v in steady.parts.items()})
