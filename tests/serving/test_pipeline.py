"""Steps in a pipeline: each stage works on one after the other, in the order in which they came."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("numba")

from tierwise.serving.simulate import simulate
from tierwise.serving.steps import StepPrices, plain_prices
from tierwise.serving.traffic.trace import trace

from .replay import bilinear
from .test_simulate import served


def seconds(p: StepPrices, new: int, past: int) -> float:
    """Of a step that is one chunk."""
    return float(p.tokens[new, 0]) + bilinear(p.prefill_new, p.prefill_context, p.prefill, new, past)


def shop(steps: list[float], stages: int) -> list[float]:
    """When each of some steps leaves the last of ``stages`` equal stages, which all begin with the first at 0."""
    free, out = [0.0] * stages, []
    for step in steps:
        at = 0.0
        for k in range(stages):
            at = free[k] = max(at, free[k]) + step / stages
        out.append(at)
    return out


@pytest.mark.parametrize("stages", [1, 2, 3, 8])
@pytest.mark.parametrize("prompt", [400, 4096, 5000])
def test_chunks_of_a_prompt_pass_the_stages_behind_each_other(stages: int, prompt: int) -> None:
    p = plain_prices(quadratic=2e-8, budget=512)
    chunks = [512] * (prompt // 512) + [prompt % 512] * (prompt % 512 > 0)
    steps = [seconds(p, new, 512 * i) for i, new in enumerate(chunks)]
    for follow, expected in ((1, shop(steps, stages)[-1]), (0, sum(steps))):
        prices = replace(p, stages=stages, follow=follow)
        run = simulate(trace([0.0], [prompt], [2]), served(context=8192.0, budget=512), [prices])
        assert run.requests.first[0] == pytest.approx(expected, rel=1e-9)


def test_no_step_leaves_the_last_stage_before_the_one_ahead_of_it() -> None:
    rng = np.random.default_rng(0)
    p = replace(plain_prices(quadratic=1e-8, budget=2048), stages=4)
    run = simulate(trace(np.cumsum(rng.exponential(0.05, 60)), rng.integers(1, 6000, 60), rng.integers(1, 60, 60)),
                   served(context=8192.0, budget=2048), [p])  # fmt: skip
    start, end = run.steps.start, run.steps.end
    order = np.argsort(start, kind="stable")
    assert (np.diff(end[order]) > 0).all() and len(order) > 100
    # No more are under way than there are stages.
    flying = [int(np.sum((start <= at) & (end > at))) for at in start]
    assert max(flying) == 4
