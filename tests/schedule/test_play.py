"""Playing orders: the fast player agrees with the slow one, and nothing is lost, gained, or used twice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.schedule import reference
from tests.schedule.orders import demands, orders
from tierwise.schedule.compiled import BadOrder
from tierwise.schedule.play import play
from tierwise.schedule.types import Demand, Order

N = 3


def possible(order: Order) -> bool:
    try:
        play(order, [Demand(1.0)] * len(order.ops), exposed=False)
    except BadOrder:
        return False
    return True


def at(x: object, i: int) -> float:
    return float(np.broadcast_to(np.asarray(x), (N,))[i])


@pytest.mark.parametrize("shared", [False, True])
@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_playing_agrees_with_the_reference(shared: bool, data: st.DataObject) -> None:
    order = data.draw(orders().filter(possible))
    asked = data.draw(demands(order, shared=shared))
    fast, quick = play(order, asked), play(order, asked, exposed=False)
    for i in range(N):
        slow = reference.play(order, asked, i)
        assert at(fast.time, i) == pytest.approx(slow.time, rel=1e-9, abs=1e-12)
        assert at(quick.time, i) == pytest.approx(slow.time, rel=1e-9, abs=1e-12)
        for lane in order.lanes:
            assert at(fast.busy[lane], i) == pytest.approx(slow.busy[lane], rel=1e-9, abs=1e-9)
            assert at(fast.exposed[lane], i) == pytest.approx(slow.exposed[lane], rel=1e-9, abs=1e-9)
            assert at(fast.busy[lane], i) <= at(fast.time, i) * (1 + 1e-9)
