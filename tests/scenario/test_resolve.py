"""Names to values, plans that use the machine, impossible degrees refused with what is allowed."""

import pytest

import tierwise as tw
from tierwise.core.errors import BadField, UnknownName
from tierwise.machines import system
from tierwise.models.types import Model
from tierwise.scenario.resolve import default_plan, describe


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tp": 3.0}, "divisor of the 16 attention heads: 1, 2, 4, 8"),
        ({"tp": 16.0}, "at most the 8 device"),
        ({"tp": 0.0}, "at least 1"),
        ({"tp": 1.5}, "whole numbers"),
        ({"pp": 5.0}, "at most the 4 layers"),
        ({"ep": 2.0, "dp": 2.0}, "no routed experts"),
        ({"sparsity": 1.0}, "fraction"),
    ],
)
def test_impossible_plans_say_what_is_possible(dense: Model, change: dict[str, float], message: str) -> None:
    with pytest.raises(BadField, match=message):
        tw.evaluate(tw.Scenario(dense, "8xh100-sxm", plan=tw.Plan(**change)))


@pytest.mark.parametrize(("dp", "ep", "message"), [(4.0, 3.0, "divisor of tp × dp = 4"), (1.0, 2.0, "divisor of tp")])
def test_expert_groups_divide_the_devices(experts: Model, dp: float, ep: float, message: str) -> None:
    with pytest.raises(BadField, match=message):
        tw.evaluate(tw.Scenario(experts, "8xh100-sxm", plan=tw.Plan(dp=dp, ep=ep)))


@pytest.mark.parametrize("traffic", [{"batch": 0}, {"batch": "many"}, {"prompt": -1}, {"output": float("nan")}])
def test_impossible_traffic_is_refused(dense: Model, traffic: dict[str, object]) -> None:
    with pytest.raises(BadField, match="traffic"):
        tw.evaluate(tw.Scenario(dense, "h100-sxm", tw.Batch(**traffic)))  # type: ignore[arg-type]


def test_default_plans_use_every_device(dense: Model, experts: Model) -> None:
    plan = default_plan(dense, system("8xh100-sxm"))
    assert (plan.tp, plan.pp, plan.dp) == (8, 1, 1)
    plan = default_plan(experts, system("16xh800"), ep=16.0)
    assert (plan.tp, plan.pp, plan.dp, plan.ep) == (1, 1, 16, 16)
    plan = default_plan(dense, system("16xh800"))
    assert plan.devices == 16


def test_unknown_names_offer_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"llama-3\.1-8b"):
        tw.evaluate(tw.Scenario("lama-3.1-8b", "h100-sxm"))
    with pytest.raises(UnknownName, match="h100-sxm"):
        tw.evaluate(tw.Scenario("llama-3.1-8b", "h100-sxn"))


def test_plans_describe_themselves() -> None:
    assert describe(tw.Plan(tp=8.0, weights=tw.fmt("fp8"))) == "tp=8, weights fp8"
    assert "one device" in describe(tw.Plan())
