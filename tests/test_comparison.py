"""Ratios: errors that both runs share cancel, those that they do not add up in squares."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tierwise as tw
from tierwise.comparison import Comparison, spread

BASE = tw.Scenario("llama-3.1-8b", "h100-sxm", tw.Batch(512.0, 64.0, 8.0), engine="kernels")
Z80 = 1.2815515655446004  # 80 % of a normal lie within this many standard deviations


def test_a_scenario_beside_itself_has_no_interval() -> None:
    c = tw.compare(BASE, BASE)
    for r in (c.time, c.ttft, c.tpot, c.throughput, c.energy, c.batch, c.memory.peak):
        assert float(r) == r.low == r.high == 1.0


@pytest.mark.parametrize(
    "other",
    [
        BASE.apply(tw.techniques.quantize_weights("fp8")),
        BASE.apply(tw.techniques.quantize_kv(bits=4)),
        BASE.with_traffic(batch=64.0),
        tw.Scenario("llama-3.1-8b", "a100-80gb", BASE.traffic),
        tw.Scenario("mixtral-8x7b", "h200-sxm", BASE.traffic),
    ],
)
def test_the_interval_holds_its_ratio_and_turns_round_with_it(other: tw.Scenario) -> None:
    a, b = tw.evaluate(BASE), tw.evaluate(other)
    there, back = Comparison(a, b), Comparison(b, a)
    for name in ("time", "ttft", "tpot", "throughput"):
        one, two = getattr(there, name), getattr(back, name)
        assert one.low <= one.value <= one.high
        assert two.low == pytest.approx(1 / one.high) and two.high == pytest.approx(1 / one.low)
    time, rate = there.time, there.throughput
    assert rate.low / rate.value == pytest.approx(time.value / time.high)
    assert rate.high / rate.value == pytest.approx(time.value / time.low)


def test_more_of_the_same_work_is_surer_than_other_work() -> None:
    """A longer answer runs the same ops; weights in another format run kernels with errors of their own."""
    longer = tw.compare(BASE, BASE.with_traffic(output=65.0)).time
    other = tw.compare(BASE, BASE.apply(tw.techniques.quantize_weights("fp8"))).time
    machine = tw.compare(BASE, tw.Scenario("llama-3.1-8b", "a100-80gb", BASE.traffic)).time
    assert longer.high / longer.low < 1.01 < other.high / other.low
    assert machine.high / machine.low > longer.high / longer.low


@given(st.integers(0, 2**32 - 1), st.floats(1.0, 40.0))
@settings(max_examples=10, deadline=None)
def test_the_interval_is_that_of_drawn_errors(seed: int, batch: float) -> None:
    """Each class's error is drawn as a log-normal of its own 80 % width; 80 % of the ratios lie in the interval.

    Nearly: the interval is of first order and takes the two sides of a lopsided error each for itself.
    """
    a, b = tw.evaluate(BASE), tw.evaluate(BASE.with_traffic(batch=float(round(batch)), prompt=2048.0))
    rng = np.random.default_rng(seed)
    drawn: dict[object, np.ndarray] = {}

    def measured(r: tw.Result) -> np.ndarray:
        """The device's time of every draw: ops of a class share one factor."""
        out = np.zeros(20_000)
        for p in r.phases:
            for x in p.ops:
                low, high = (float(np.log(end)) for end in x.cost.interval)
                z = rng.standard_normal(20_000) / Z80
                key = (x.op.kind, x.cost.basis, low, high)
                factor = drawn.setdefault(key, np.exp(np.where(z > 0, z * high, -z * low)))
                out += float(x.time * p.passes * p.pipeline_stretch) * factor
        return out

    before, after = measured(a), measured(b)
    usual = [sum(float(x.time * p.passes * p.pipeline_stretch) for p in r.phases for x in p.ops) for r in (a, b)]
    ratio = (after / usual[1]) / (before / usual[0])
    low, high = (float(x) for x in spread(a, b))
    assert 0.7 <= float(np.mean((ratio >= low) & (ratio <= high))) <= 0.9


def test_arrays_are_compared_element_by_element() -> None:
    batches = np.array([1.0, 8.0, 64.0])
    swept = tw.compare(BASE, BASE.with_traffic(batch=batches))
    for i, batch in enumerate(batches):
        one = tw.compare(BASE, BASE.with_traffic(batch=float(batch)))
        for name in ("time", "tpot", "throughput"):
            many, single = getattr(swept, name), getattr(one, name)
            for end in ("value", "low", "high"):
                assert np.asarray(getattr(many, end))[i] == pytest.approx(float(getattr(single, end)), rel=1e-9)


def test_it_shows_itself_and_gives_its_json() -> None:
    c = tw.compare(BASE, BASE.apply(tw.techniques.quantize_weights("fp8")))
    text = repr(c)
    assert 8 <= len(text.splitlines()) <= 14 and f"{float(c.time):.2f}×" in text
    assert c._repr_html_().startswith("<table>") and "0x" not in text
    found = c.to_dict()
    assert found["schema"].startswith("tierwise.comparison/")
    assert found["changes"][0]["ratios"]["time_s"]["interval"] == [float(c.time.low), float(c.time.high)]
    assert "to" in repr(tw.compare(BASE, BASE.with_traffic(batch=np.array([1.0, 2.0]))))


def test_what_does_not_fit_has_ratios_to_nothing_and_compares_all_the_same() -> None:
    big = tw.Scenario("llama-3.1-70b", "h100-sxm", tw.Batch(512.0, 64.0, "max"), engine="kernels")
    small = big.apply(tw.techniques.quantize_weights("int4-g128"))
    there, back, twice = tw.compare(big, small), tw.compare(small, big), tw.compare(big, big)
    assert there.base.fits is False and there.other.fits is True
    assert float(there.throughput) == np.inf and float(back.throughput) == 0.0 and np.isnan(float(twice.throughput))
    assert np.isnan(float(twice.batch)) and float(there.memory.weights) < 0.4
    assert there.to_dict()["changes"][0]["ratios"]["throughput"]["ratio"] is None
