"""Prefill on one kind of machine, decode on another: what every such deployment must satisfy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.search.cases import ask
from tierwise.core.numerics import fmt
from tierwise.report.plan_data import deployment as described
from tierwise.search.curves import curves_of
from tierwise.search.deploy import deployment
from tierwise.search.family import families_of
from tierwise.search.question import Freedom, Question
from tierwise.search.serve import plan


def mixed(**options) -> Question:  # type: ignore[no-untyped-def]
    question = ask(on=("4xh100-sxm", "6xl40s"), **options)
    return replace(question, freedom=replace(question.freedom, modes=("mixed",)))


def test_a_twin_of_the_machine_changes_nothing():
    """Prefill on one machine and decode on another just like it is disaggregation on the one, with devices of both."""
    question = ask(on=("4xh100-sxm",))
    one = question.systems[0]
    twin = replace(question, systems=(one, replace(one, name="twin")),
                   freedom=replace(question.freedom, modes=("mixed",)))  # fmt: skip
    apart = replace(question, freedom=replace(question.freedom, modes=("disaggregated",)))
    (alone,) = curves_of(apart, families_of(apart)[0])
    pair = next(f for f in families_of(twin) if f.first is not None)
    (both,) = curves_of(twin, pair)

    def rows(c):  # type: ignore[no-untyped-def]
        names = np.stack([c.engines.tp, c.engines.pp, c.prefill.tp, c.prefill.pp, c.prefills, c.decodes], axis=1)
        return {tuple(k): (c.ttft[i], c.tpot[i]) for i, k in enumerate(names)}

    found, wanted = rows(both), rows(alone)
    assert set(wanted) < set(found)
    for key, (ttft, tpot) in wanted.items():
        np.testing.assert_allclose(found[key][0], ttft, rtol=1e-12)
        np.testing.assert_allclose(found[key][1], tpot, rtol=1e-12)


def test_each_role_keeps_to_its_own_machine_and_costs_its_own_rent():
    question = mixed(rate=8.0)
    answer = plan(question, confirm=False)
    p, rents = answer.points, {s.device.name: s.device.price.rent for s in question.systems}
    assert len(p) and np.all(p.prefills > 0)
    for row in np.linspace(0, len(p) - 1, 12).astype(int):
        family = answer.families[int(p.family[row])]
        if family.first is None:
            continue
        before, after = deployment(question, answer.families, p, row).groups
        assert (before.machine.name, after.machine.name) == (family.first.system.name, family.system.name)
        used = [g.count * g.plan.devices for g in (before, after)]
        assert all(n <= g.machine.count for n, g in zip(used, (before, after), strict=True))
        paid = sum(n * rents[g.machine.device.name] for n, g in zip(used, (before, after), strict=True))
        assert p.rent[row] == pytest.approx(paid, rel=1e-9)
        d = described(answer, p, row)
        assert d["prefill"]["devices"] + d["decode"]["devices"] == d["devices"]


def test_a_faster_machine_to_prefill_shortens_the_first_token():
    question = mixed(concurrency=8.0)
    answer = plan(question, confirm=False)
    least = {}
    for i, family in enumerate(answer.families):
        if family.first is not None:
            least[family.first.system.device.name] = float(np.min(answer.points.ttft[answer.points.family == i]))
    assert least["h100-sxm"] < least["l40s"]


def test_formats_may_differ_by_role_on_one_machine():
    question = ask(on=("4xh100-sxm",), rate=4.0)
    question = replace(question, freedom=Freedom(modes=("mixed",), weights=(None, fmt("fp8"))))
    pairs = [f for f in families_of(question) if f.first is not None]
    assert {(str(f.first.weights), str(f.weights)) for f in pairs} == {("None", "fp8"), ("fp8", "None")}
    answer = plan(question, confirm=False)
    assert np.all(answer.points.devices <= 4)
    before, after = deployment(question, answer.families, answer.points, answer.best.row).groups
    assert (before.plan.weights is None) != (after.plan.weights is None)


def test_a_budget_holds_for_both_together():
    question = mixed()
    hourly = sum(s.device.price.rent for s in question.systems) * 2.0
    answer = plan(replace(question, budget=hourly), confirm=False)
    mine = [i for i, f in enumerate(answer.families) if f.first is not None]
    assert len(answer.points) and np.isin(answer.points.family, mine).all()
    assert np.all(answer.points.rent <= hourly * (1.0 + 1e-9))
