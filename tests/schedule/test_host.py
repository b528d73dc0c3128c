"""Launches queue up: the slower of host and device sets the pace of a pass."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierwise.cost.types import Cost
from tierwise.schedule.host import paced, working

seconds = st.floats(0.0, 1e-3)


def cost(device: float, gap: float, launch: float) -> Cost:
    return Cost({"compute": device, "launch": launch}, {"dispatch": gap}, 1.0)


@given(st.lists(st.tuples(seconds, seconds, seconds, st.integers(1, 5)), min_size=1, max_size=6))
def test_a_pass_takes_the_longer_of_the_two_sums(ops: list[tuple[float, float, float, int]]) -> None:
    costs, times = [cost(*o[:3]) for o in ops], [float(o[3]) for o in ops]
    host = sum(n * o[2] for o, n in zip(ops, times, strict=True))
    device = sum(n * (o[0] + o[1]) for o, n in zip(ops, times, strict=True))
    got = sum(n * c.time for c, n in zip(paced(costs, times), times, strict=True))
    assert got == pytest.approx(max(host, device), rel=1e-9, abs=1e-12)


def test_each_configuration_has_its_own_pace() -> None:
    costs = [Cost({"compute": np.asarray([1.0, 9.0]), "launch": 2.0}, {}, 1.0), cost(1.0, 0.5, 2.0)]
    both = paced(costs, [1.0, 1.0])
    np.testing.assert_allclose(sum(c.time for c in both), [4.0, 10.5])
    assert list(both[0].bound_by) == ["launch", "compute"]


def test_where_the_host_is_slower_every_op_is_bound_by_its_launch() -> None:
    ops = [cost(5.0, 0.1, 4.0), *[cost(0.1, 0.1, 4.0)] * 9]
    assert {str(c.bound_by) for c in paced(ops, [1.0] * 10)} == {"launch"}


def test_a_spread_of_hosts_is_the_interval_where_they_set_the_pace() -> None:
    costs = [Cost({"compute": np.asarray([1.0, 9.0]), "launch": 2.0}, {}, 1.0, interval=(0.9, 1.5))]
    low, high = paced(costs, [1.0], (0.7, 1.3))[0].interval
    np.testing.assert_allclose([low, high], [[0.7, 0.9], [1.3, 1.5]])


def test_what_the_device_works_on_leaves_launches_out() -> None:
    assert working(cost(1.0, 0.5, 9.0)) == 1.0
