"""Playing orders: the fast player agrees with the slow one, and nothing is lost, gained, or used twice."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.schedule import reference
from tests.schedule.orders import demands, orders
from tierwise.core.errors import TierwiseError
from tierwise.core.intervals import Interval, change, factors
from tierwise.core.num import Num
from tierwise.schedule.compiled import BadOrder
from tierwise.schedule.play import play
from tierwise.schedule.types import Buffer, Demand, Issue, Order, OrderEdge, Section

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
@settings(max_examples=80, deadline=None)
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


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_nothing_is_lost_and_nothing_is_used_twice(data: st.DataObject) -> None:
    order = data.draw(orders().filter(possible))
    asked = data.draw(demands(order, shared=True))
    done = play(order, asked)
    for i in range(N):
        slow = [(op, turn) for row in reference.issues(order, i).values() for _, op, turn in row]
        for total, part in ((done.bytes, "bytes"), (done.joules, "joules")):
            for name, value in total.items():
                assert at(value, i) == pytest.approx(sum(at(getattr(asked[op], part)[name], i) for op, _ in slow))
        for used in (*done.busy.values(), *done.drawn.values()):
            assert at(used, i) <= at(done.time, i) * (1 + 1e-9)
        # Some lane works at every moment, so what each adds is the whole.
        assert sum(at(x, i) for x in done.exposed.values()) == pytest.approx(at(done.time, i), rel=1e-9, abs=1e-9)
        assert at(done.time, i) <= sum(at(x, i) for x in done.busy.values()) * (1 + 1e-9) + 1e-12


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_without_contention_slower_ops_or_fewer_buffers_never_help(data: st.DataObject) -> None:
    order = data.draw(orders().filter(possible))
    asked = data.draw(demands(order))
    time = np.asarray(play(order, asked, exposed=False).time)
    more = data.draw(st.lists(st.floats(1.0, 3.0), min_size=len(asked), max_size=len(asked)))
    slower = [replace(d, duration=d.duration * k) for d, k in zip(asked, more, strict=True)]
    assert np.all(np.asarray(play(order, slower, exposed=False).time) >= time * (1 - 1e-12))
    wider = replace(order, buffers=tuple(replace(b, copies=(b.copies or 0) + 1) for b in order.buffers))
    assert np.all(np.asarray(play(wider, asked, exposed=False).time) <= time * (1 + 1e-12))


Errors = list[tuple[str, tuple[float, float]]]


def around(order: Order, asked: list[Demand], errors: Errors) -> Interval:
    """Factors on the time of an order whose ops have errors, each of a group and with its ends."""

    def moved(group: str, end: int) -> Num:
        slower = [replace(d, duration=d.duration * (ends[end] if g == group else 1.0))
                  for d, (g, ends) in zip(asked, errors, strict=True)]  # fmt: skip
        return play(order, slower, exposed=False).time

    usual = play(order, asked, exposed=False).time
    return factors(change(partial(moved, group), usual) for group in dict.fromkeys(g for g, _ in errors))


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_an_interval_holds_its_time_and_goes_no_further_than_its_groups(data: st.DataObject) -> None:
    order = data.draw(orders().filter(possible))
    ends = st.tuples(st.floats(0.5, 1.0), st.floats(1.0, 2.0))
    asked = data.draw(demands(order))
    low, high = around(order, asked, [(data.draw(st.sampled_from("gh")), data.draw(ends)) for _ in asked])
    assert np.all(np.asarray(low) <= 1.0) and np.all(np.asarray(high) >= 1.0)
    # Alone, a group of factors from 0.5 to 2 moves the time by no more than that; there are two groups.
    assert np.all(np.asarray(low) >= 0.5 ** (2**0.5) * (1 - 1e-9))
    assert np.all(np.asarray(high) <= 2.0 ** (2**0.5) * (1 + 1e-9))


def two_ops(first: Demand, second: Demand, beside: bool) -> tuple[Order, list[Demand]]:
    lanes = ("a", "b") if beside else ("a", "a")
    row: dict[str, tuple[Issue, ...]] = {}
    for op, lane in enumerate(lanes):
        row[lane] = (*row.get(lane, ()), Issue(op))
    return Order(("first", "second"), tuple(dict.fromkeys(lanes)), (Section(row, 10.0, 1),)), [first, second]


def test_errors_of_a_group_add_up_and_those_of_two_groups_in_quadrature() -> None:
    def ends(groups: str, beside: bool, second: float = 1.0) -> Interval:
        return around(*two_ops(Demand(1.0), Demand(second), beside), [(g, (0.8, 1.25)) for g in groups])

    assert ends("gg", False) == pytest.approx((0.8, 1.25))
    # Each of two moves the sum by half: ln(0.9) and ln(1.125), twice, in quadrature.
    assert ends("gh", False) == pytest.approx((np.exp(np.log(0.9) * 2**0.5), np.exp(np.log(1.125) * 2**0.5)))
    # Beside an op that takes ten times as long, the short one's error changes nothing.
    assert ends("gh", True, 10.0) == pytest.approx((0.8, 1.25))
    # Of two equal ones side by side either alone can only make it longer: a maximum is no sum.
    assert ends("gh", True) == pytest.approx((1.0, np.exp(np.log(1.25) * 2**0.5)))


@pytest.mark.parametrize("slow", [1.0, 0.25, 4.0])
def test_a_lane_that_runs_ahead_without_end_is_no_period_and_still_right(slow: float) -> None:
    # Lane b waits for a; a waits for nobody. A million turns are not played one by one.
    n = 1e6
    order = Order(("a", "b"), ("a", "b"), (Section({"a": (Issue(0),), "b": (Issue(1),)}, n, 1),), (OrderEdge(0, 1),))
    done = play(order, [Demand(1.0), Demand(slow)])
    assert done.time == pytest.approx(n * max(1.0, slow) + min(1.0, slow), rel=1e-9)


def test_what_is_issued_nowhere_is_over_from_the_start() -> None:
    row = {"a": (Issue(0),), "b": (Issue(1),)}
    order = Order(("x", "y"), ("a", "b"), (Section(row),), (OrderEdge(0, 1, 1),))
    assert play(order, [Demand(2.0), Demand(1.0)]).time == 2.0


def test_what_only_the_first_turn_waits_for_is_no_period() -> None:
    # Loading takes 5 in a lane of its own; after it, every turn takes 1.
    first, period = Section({"b": (Issue(0),)}), Section({"a": (Issue(1),)}, np.asarray([1.0, 2.0, 50.0, 1e6]), 1)
    order = Order(("load", "turn"), ("a", "b"), (first, period), (OrderEdge(0, 1, before=True),))
    for draws in ({}, {"hbm": 0.6}):  # both ways to play
        done = play(order, [Demand(5.0, draws), Demand(1.0, draws)])
        np.testing.assert_allclose(done.time, 5.0 + period.turns, rtol=1e-12)


def test_a_slower_lane_that_is_still_ahead_is_no_period() -> None:
    # Lane b is held up by 50 at first and then takes 1 a turn; lane a takes 2 a turn from the start. Each turn of b
    # waits for that of a, which decides only after some 50 turns; until then both keep an even pace.
    for n in (30.0, 1000.0, 1e6):
        first, period = Section({"b": (Issue(0),)}), Section({"a": (Issue(1),), "b": (Issue(2),)}, n, 1)
        order = Order(("load", "slow", "fast"), ("a", "b"), (first, period), (OrderEdge(1, 2),))
        done = play(order, [Demand(50.0), Demand(2.0), Demand(1.0)])
        assert done.time == pytest.approx(max(2.0 * n + 1.0, 50.0 + n), rel=1e-12)


def test_a_period_of_several_turns_is_found() -> None:
    # A ring of three ops in three lanes that gives way only every second turn, a million times.
    lanes = {x: (Issue(i),) for i, x in enumerate("abc")}
    order = Order(("a", "b", "c"), ("a", "b", "c"), (Section(lanes, 1e6, 1),),
                  (OrderEdge(0, 1), OrderEdge(1, 2), OrderEdge(2, 0, 2)))  # fmt: skip
    asked = [Demand(1.0), Demand(3.0), Demand(1.0)]
    few = replace(order, sections=(replace(order.sections[0], turns=100.0),))
    long, short = (float(play(x, asked, exposed=False).time) for x in (order, few))
    assert short == pytest.approx(reference.play(few, asked).time)
    assert long == pytest.approx(short + (1e6 - 100) * 3.0)


def test_shared_periods_are_found_as_well() -> None:
    order, asked = two_ops(Demand(1.0, {"hbm": 0.8}), Demand(1.5, {"hbm": 0.7}), True)
    order = replace(
        order, sections=(replace(order.sections[0], turns=1e5),), edges=(OrderEdge(0, 1), OrderEdge(1, 0, 2))
    )
    few = replace(order, sections=(replace(order.sections[0], turns=200.0),))
    more = replace(order, sections=(replace(order.sections[0], turns=400.0),))
    a, b = reference.play(few, asked).time, reference.play(more, asked).time
    assert play(order, asked).time == pytest.approx(a + (b - a) / 200.0 * (1e5 - 200.0), rel=1e-9)


def test_an_op_that_never_ends_makes_a_time_without_end() -> None:
    order, asked = two_ops(Demand(np.asarray([1.0, np.inf])), Demand(1.0), True)
    np.testing.assert_array_equal(play(order, asked).time, [10.0, np.inf])


def test_what_cannot_be_played_is_refused() -> None:
    order, asked = two_ops(Demand(1.0), Demand(1.0), True)
    for edges, text in (
        ((OrderEdge(0, 1), OrderEdge(1, 0)), "wait for each other"),
        ((OrderEdge(0, 1, -1),), "issued later"),
    ):
        with pytest.raises(BadOrder, match=text):
            play(replace(order, edges=edges), asked)
    with pytest.raises(BadOrder, match="2 copies"):
        play(replace(order, buffers=(Buffer("t", 0, 1, 2, 2),)), asked)
    with pytest.raises(TierwiseError, match="between 0 and 1"):
        play(order, [Demand(1.0, {"sm": 1.5}), Demand(1.0)])
    with pytest.raises(TierwiseError, match="whole"):
        play(replace(order, sections=(replace(order.sections[0], turns=1.5),)), asked)
    with pytest.raises(TierwiseError, match="one configuration"):
        play(order, [Demand(np.ones(2)), Demand(1.0)], events=True)
