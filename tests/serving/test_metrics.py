"""Metrics: definitions by hand and against NumPy; keeping up, against queues of known capacity; fairness."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tierwise.serving.fairness import jain, max_min
from tierwise.serving.metrics import histogram_quantiles, metrics, spread, times
from tierwise.serving.outcome import SimulatedRun
from tierwise.serving.saturation import saturation
from tierwise.serving.traffic.trace import Trace, trace

from .runs import interrupted, poisson, run

FIRST, EACH, OUTPUT = 0.1, 0.01, 51
# A request of OUTPUT tokens holds its seat for FIRST + EACH * (OUTPUT - 1) seconds.
HOLD = FIRST + EACH * (OUTPUT - 1)


def steady(n: int, rate: float, seed: int = 0) -> Trace:
    """Poisson arrivals of equal requests."""
    arrival = np.cumsum(np.random.default_rng(seed).exponential(1.0 / rate, n))
    return trace(arrival, np.full(n, 100), np.full(n, OUTPUT))


def served(n: int, utilization: float, seats: int = 4, seed: int = 0) -> SimulatedRun:
    """A queue at a share of its capacity."""
    return run(steady(n, utilization * seats / HOLD, seed), seats, first=FIRST, each=EACH)


def by_hand() -> SimulatedRun:
    """Three requests: one second each to the first token; 11, 1 and 6 tokens."""
    r = run(trace([0.0, 0.0, 2.0], [10, 20, 30], [11, 1, 6]), 1, first=1.0, each=0.1)
    # The seat is free at 2.0, 3.0 and 4.5.
    np.testing.assert_allclose(r.requests.last, [2.0, 3.0, 4.5])
    return r


def test_times_by_hand() -> None:
    t = times(by_hand())
    np.testing.assert_allclose(t.queueing, [0.0, 2.0, 1.0])
    np.testing.assert_allclose(t.ttft, [1.0, 3.0, 2.0])
    np.testing.assert_allclose(t.tpot, [0.1, np.nan, 0.1])
    np.testing.assert_allclose(t.latency, [2.0, 3.0, 2.5])


def test_rates_and_goodput_by_hand() -> None:
    m = metrics(by_hand(), ttft=2.0, tpot=0.05)
    assert m.span == pytest.approx(4.5)
    assert m.request_rate == pytest.approx(3 / 4.5)
    assert m.output_rate == pytest.approx(18 / 4.5) and m.prompt_rate == pytest.approx(60 / 4.5)
    assert m.ttft_met == pytest.approx(2 / 3)  # 1 s and 2 s
    assert m.tpot_met == pytest.approx(1 / 3)  # the one with a single token has none to miss
    assert m.good_share == 0.0 and m.goodput == 0.0
    assert metrics(by_hand(), tpot=0.11).good_share == 1.0
    assert m.tokens_per_joule == pytest.approx(18 / (300.0 * 4.5))
    assert m.tokens_per_dollar == pytest.approx(18 / 0.0045)
    assert m.usd_per_million * m.tokens_per_dollar == pytest.approx(1e6)


def test_samples_are_generated_side_by_side() -> None:
    one = by_hand()
    many = replace(one, trace=replace(one.trace, samples=np.full(3, 4)),
                   requests=replace(one.requests, made=4 * one.requests.made))  # fmt: skip
    np.testing.assert_array_equal(times(many).tpot, times(one).tpot)
    assert metrics(many).output_rate == pytest.approx(4 * metrics(one).output_rate)


@given(st.lists(st.one_of(st.floats(0, 1e6), st.just(float("nan"))), max_size=60))
def test_a_spread_is_that_of_the_finite_values(values: list[float]) -> None:
    x = np.array(values, dtype=np.float64)
    s, finite = spread(x), x[np.isfinite(x)]
    assert s.count == len(finite)
    if not len(finite):
        assert np.isnan(s.mean) and np.isnan(s.max)
        return
    for q, got in ((50, s.p50), (90, s.p90), (95, s.p95), (99, s.p99)):
        assert got == pytest.approx(np.percentile(finite, q))
    assert s.p50 <= s.p90 <= s.p95 <= s.p99 <= s.max
    assert s.mean == pytest.approx(finite.mean())


@given(st.lists(st.floats(1e-4, 10.0), min_size=1, max_size=300), st.sampled_from([0.1, 0.5, 0.9, 0.99]))
def test_quantiles_of_a_histogram_are_right_to_within_a_bin(values: list[float], q: float) -> None:
    edges = np.concatenate([[0.0], np.geomspace(1e-4, 10.0001, 100)])
    counts = np.histogram(values, edges)[0]
    got = float(histogram_quantiles(edges, counts, (q,))[0])
    want = float(np.quantile(values, q, method="inverted_cdf"))
    ratio = edges[2] / edges[1]
    assert want / ratio * (1 - 1e-9) <= got <= want * ratio * (1 + 1e-9)


def test_itl_of_equal_gaps_is_the_gap() -> None:
    m = metrics(run(poisson(200, 1.0), each=0.02))
    assert m.itl.mean == pytest.approx(0.02)
    assert m.itl.p99 <= m.itl.max == pytest.approx(0.02)
    assert m.itl.p50 == pytest.approx(0.02, rel=0.06)


def test_little() -> None:
    """Mean requests in the system are the rate times the mean time in it."""
    r = served(2000, 0.8)
    m = metrics(r)
    inside = float(r.series.running.mean() + r.series.waiting.mean()) * r.totals["end"]
    assert inside == pytest.approx(m.latency.mean * m.done, rel=1e-6)


@pytest.mark.parametrize("utilization", [0.3, 0.7, 0.9])
def test_a_system_with_capacity_to_spare_keeps_up(utilization: float) -> None:
    said = [saturation(served(3000, utilization, seed=seed)) for seed in range(12)]
    assert not any(x.saturated for x in said)
    assert all(np.isnan(x.sustainable) and np.isnan(x.judged) for x in said)
    offered = utilization * 4 / HOLD
    assert np.mean([x.offered for x in said]) == pytest.approx(offered, rel=0.02)


@pytest.mark.parametrize("utilization", [1.3, 2.0, 6.0])
@pytest.mark.parametrize("seats", [1, 4, 32])
def test_a_saturated_system_is_said_to_be_and_what_it_sustains(utilization: float, seats: int) -> None:
    said = saturation(served(3000, utilization, seats))
    assert said.saturated and said.judged > said.sustainable
    assert said.sustainable == pytest.approx(seats / HOLD, rel=0.03)
    assert said.late_served < said.late_offered
    assert said.growth > said.noise


def test_more_seats_sustain_more() -> None:
    t = steady(2000, 40.0)
    rates = [saturation(run(t, seats)).sustainable for seats in (1, 2, 4, 8)]
    assert rates == sorted(rates) and rates[-1] > 7.5 * rates[0]


def test_batches_that_still_grow_are_too_short_a_trace_to_tell() -> None:
    """Places for all, so that nobody waits; requests stay longer than the trace is long."""
    t = steady(200, 4.0)
    slow, quick = run(t, 256, each=0.2 * 60.0 / OUTPUT * 10), run(t, 256, each=0.01)
    assert saturation(slow).filling > 60 and not saturation(slow).saturated
    assert saturation(quick).filling == 0 and not saturation(quick).saturated
    assert all(saturation(served(3000, 0.9, seed=seed)).filling == 0 for seed in range(12))


def test_too_few_requests_to_tell_are_not_called_saturated() -> None:
    assert not saturation(served(8, 3.0)).saturated


def test_a_burst_that_is_worked_off_is_behind_for_a_while() -> None:
    capacity = 4 / HOLD
    rates = np.repeat([0.5, 3.0, 0.3], [500, 1500, 1500]) * capacity
    t = replace(steady(3500, 1.0), arrival=np.cumsum(np.random.default_rng(1).exponential(1.0, 3500) / rates))
    said = saturation(run(t, 4))
    assert not said.saturated
    assert 0.1 < said.behind < 0.9 and said.peak > 500


def test_a_burst_at_the_end_does_not_make_a_low_rate_too_high() -> None:
    capacity = 4 / HOLD
    arrival = np.concatenate(
        [np.arange(500) / (0.2 * capacity), 500 / (0.2 * capacity) + np.arange(400) / (50 * capacity)]
    )
    said = saturation(run(trace(arrival, np.full(900, 100), np.full(900, OUTPUT)), 4))
    assert not said.saturated and said.queue > said.queue_noise


def test_a_rate_above_capacity_early_leaves_a_queue_that_counts() -> None:
    """Overloaded first, then just served: the queue of the beginning still stands when arrivals end."""
    capacity = 4 / HOLD
    rates = np.repeat([2.5, 0.95], [2000, 1200]) * capacity
    t = replace(steady(3200, 1.0), arrival=np.cumsum(1.0 / rates))
    said = saturation(run(t, 4))
    assert said.saturated and said.judged == said.offered > said.sustainable
    assert said.sustainable == pytest.approx(capacity, rel=0.03)


def test_a_closed_loop_and_requests_sent_at_once_have_no_rate_to_keep_up_with() -> None:
    zeros, ones = np.zeros(300), np.full(300, 50)
    closed = saturation(run(trace(zeros, ones, ones, closed_loop=8), 8))
    at_once = saturation(run(trace(zeros, ones, ones), 4))
    assert (closed.kind, closed.clients, at_once.kind) == ("closed", 8, "at once")
    for said in (closed, at_once):
        assert not said.saturated and np.isnan(said.offered)


def test_an_interrupted_run_tells_of_what_happened() -> None:
    whole = served(3000, 2.0)
    part = interrupted(whole, 0.4 * whole.totals["end"])
    m = metrics(part)
    assert m.interrupted and m.requests < 3000 and m.unfinished == m.requests - m.done > 0
    assert m.load.saturated and m.load.sustainable == pytest.approx(4 / HOLD, rel=0.05)
    assert m.span <= part.totals["end"]


def test_what_requests_wait_for() -> None:
    said = saturation(served(2000, 2.0))
    assert said.seats_waiting == pytest.approx(1.0, abs=0.02) and said.kv_waiting < 0.1
    calm = saturation(served(50, 0.1))
    assert np.isnan(calm.seats_waiting) or calm.seats_waiting <= 1.0


def test_rejected_requests_have_their_reasons_and_are_not_offered() -> None:
    t = trace(np.arange(10.0), np.array([10, 500] * 5), np.full(10, 10))
    m = metrics(run(t, too_long=100))
    assert (m.done, m.rejected, m.requests) == (5, 5, 10)
    assert m.reasons == {"longer than the 100 tokens a request may have": 5}
    assert m.good_share == 0.5 and m.load.offered == pytest.approx(4 / 8.0)
    short = run(t, too_long=100)
    unbounded = replace(short, deployment=short.deployment.with_settings(max_len=10_000))
    assert list(metrics(unbounded).reasons) == ["need more KV memory than a replica has"]


def test_nothing_done_is_told_without_a_warning() -> None:
    t = trace(np.arange(5.0), np.full(5, 10), np.full(5, 10))
    m = metrics(run(t, too_long=5), 1.0, 0.1)
    assert m.done == 0 and m.rejected == 5 and m.good_share == 0.0
    assert np.isnan(m.ttft.mean) and np.isnan(m.itl.p99) and np.isnan(m.usd_per_million)


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=20), st.floats(0, 1))
def test_the_max_min_split(demand: list[float], share: float) -> None:
    d = np.array(demand)
    total = share * float(d.sum())
    fair = max_min(d, total)
    assert fair.sum() == pytest.approx(total, rel=1e-9, abs=1e-6)
    assert (fair <= d).all()
    short = fair < d * (1 - 1e-12)
    if short.any():  # who gets less than it asked gets as much as anybody
        assert np.ptp(fair[short]) <= 1e-9 * max(total, 1.0) and fair[short].min() >= fair.max() * (1 - 1e-9)


@given(st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=20), st.floats(1e-3, 1e3))
def test_jains_index(shares: list[float], scale: float) -> None:
    x = np.array(shares)
    assert 1 / len(x) - 1e-12 <= jain(x) <= 1 + 1e-12
    assert jain(scale * x) == pytest.approx(jain(x))
    assert jain(np.ones(len(x))) == pytest.approx(1.0)
    assert jain(np.eye(len(x))[0]) == pytest.approx(1 / len(x))


def test_a_tenant_that_floods_a_fifo_queue_gets_more_than_its_part() -> None:
    n = 3000
    who = (np.random.default_rng(2).random(n) < 0.2).astype(int)  # tenant 0 sends four in five
    t = replace(steady(n, 3 * 4 / HOLD), tenant=who, tenants=("flood", "calm"))
    f = metrics(run(t, 4)).fairness
    assert f.service[0] > 1.3 * f.fair[0] and f.service[1] < 0.8 * f.fair[1] and f.jain < 0.95
    assert f.service.sum() == pytest.approx(f.fair.sum())
    assert metrics(run(replace(t, arrival=20 * t.arrival), 4)).fairness.jain > 0.999  # with room for all it is fair


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 6), st.integers(0, 1000))
def test_times_by_tenant_are_those_of_its_requests(k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    t = replace(steady(60, 5.0, seed), tenant=rng.integers(0, k, 60), tenants=tuple(map(str, range(k + 1))))
    r = run(t, 2)
    f, ttft = metrics(r).fairness, times(r).ttft
    for i in range(k):
        mine = ttft[t.tenant == i]
        if len(mine):
            assert f.ttft[i] == pytest.approx(mine.mean())
            assert f.ttft_p99[i] == pytest.approx(np.quantile(mine, 0.99))
    assert np.isnan(f.ttft_p99[k]) and f.requests.sum() == 60


def test_a_million_requests_are_told_at_once() -> None:
    n = 1_000_000
    t = poisson(n, 10.0, tenant=np.arange(n) % 7, tenants=tuple("abcdefg"))
    small = run(poisson(10, 1.0))
    zero = np.zeros(n, np.int64)
    first = t.arrival + 0.1
    requests = replace(
        small.requests, arrival=t.arrival, scheduled=t.arrival, first=first, last=first + 0.01 * (t.output - 1),
        longest=np.full(n, 0.01), made=t.output, cached=zero, preempted=zero, replica=zero, state=zero + 2,
    )  # fmt: skip
    r = replace(small, trace=t, requests=requests, totals={"end": float(requests.last.max())})
    start = time.process_time()
    assert metrics(r, 1.0, 0.02).good_share == 1.0
    assert time.process_time() - start < 4.0  # half a second alone on a core; a loop over requests takes far more
