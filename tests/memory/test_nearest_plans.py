"""What does not fit is answered with plans that do; what is not known well, with what to measure."""

import pytest

import tierwise as tw
from tierwise.advise import advise
from tierwise.report.explain_data import to_dict
from tierwise.steps.doubt import WIDE, doubt


@pytest.mark.parametrize(
    ("model", "machine", "weights", "kinds"),
    [
        ("qwen2.5-14b", "raspberry-pi-5", None, {"weights and kv", "machine"}),
        ("llama-2-70b", "rtx-4090", "q4_k", {"devices"}),
        ("deepseek-v3", "h100-sxm", None, {"devices"}),
        ("llama-3.1-8b", "t4", None, {"weights", "devices"}),
        ("resnet-50", "stm32h743", None, {"machine"}),
    ],
)
def test_whatever_does_not_fit_names_plans_that_do(
    model: str, machine: str, weights: str | None, kinds: set[str]
) -> None:
    scenario = tw.Scenario(model, machine, tw.Batch(batch=1.0))
    if weights is not None:
        scenario = scenario.with_plan(weights=weights)
    found = tw.evaluate(scenario)
    assert not found.fits
    advice = advise(found)
    assert kinds <= {a.kind for a in advice}
    for a in advice:
        other = tw.evaluate(a.scenario)
        assert other.fits and a.aim == "fits" and a.peak <= a.capacity and a.time[1] > 0
        assert a.changes and all(c.before != c.after for c in a.changes if not c.field.startswith("plan."))
    assert len(to_dict(found, advice)["advice"]) == len(advice)


def test_two_cards_hold_what_one_does_not() -> None:
    found = advise(tw.evaluate(tw.Scenario("llama-2-70b", "rtx-4090").with_plan(weights=tw.fmt("q4_k"))))
    assert next(a for a in found if a.kind == "devices").changes[0].after == 2.0


def test_a_wide_interval_names_the_measurement_that_would_narrow_it_most() -> None:
    wide = tw.evaluate(tw.Scenario("llama-3.1-8b", "mi300x", tw.Batch(1000.0, 100.0, 8.0)))
    low, high = wide.interval
    assert high / low > WIDE
    told = to_dict(wide)["measure"]
    assert told["group"].startswith("cdna3/") and "tierwise" in told["command"] and told["command"] in told["text"]
    steps = [(p.cost, float(p.passes * p.pipeline_stretch)) for p in wide.phases]
    found = doubt(steps)
    assert found is not None and found.group == told["group"] and 0 < found.time <= 1
    assert found.interval == pytest.approx((low / wide.time, high / wide.time), rel=1e-6)
    # No other error narrows it more.
    assert found.part >= max(0.0, 1.0 / len({g for s, _ in steps for g in s.groups}))
    assert found.without[1] / found.without[0] < found.interval[1] / found.interval[0]
    sure = tw.evaluate(tw.Scenario("llama-3.1-8b", "h100-sxm", tw.Batch(1000.0, 100.0, 8.0)))
    assert sure.interval[1] / sure.interval[0] < WIDE and to_dict(sure)["measure"] is None
