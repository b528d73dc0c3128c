"""Requests of which only one fits at a time are served one after the other: none is forgotten."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import tierwise as tw

pytest.importorskip("numba")

from tierwise.serving.deployment import Deployment, Replicas, Settings
from tierwise.serving.outcome import DONE
from tierwise.serving.simulate import simulate
from tierwise.serving.steps import plain_prices
from tierwise.serving.traffic.trace import trace


@pytest.mark.parametrize("ahead", [0, 1])
@pytest.mark.parametrize("exact", [False, True])
def test_places_that_only_the_last_one_frees_are_taken(ahead: int, exact: bool) -> None:
    r = tw.Scenario("llama-2-7b", "a100-80gb", tw.Batch(1, 1, 1)).resolved()
    group = Replicas(r.machine, r.plan, settings=Settings(prefix_cache=False, graphs=0))
    prices = replace(plain_prices(room=1000 * 131072.0), ahead=ahead)  # tokens: one request of 640 and a bit
    n = 12
    many = trace(np.zeros(n), np.full(n, 128), np.full(n, 512))
    run = simulate(many, Deployment(r.model, (group,)), [prices], exact=exact)
    assert (run.requests.state == DONE).all()
    assert (run.requests.made == 512).all()
