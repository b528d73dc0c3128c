"""Advice: neighbours that are worth it by their own interval, as data that its sentence is made of."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierwise.advise import Advice, advise
from tierwise.comparison import Comparison
from tierwise.core.intervals import Change
from tierwise.core.units import seconds
from tierwise.evaluation import evaluate
from tierwise.report import advice_words, explain_words
from tierwise.report.explain_data import to_dict
from tierwise.result import Phase
from tierwise.scenario.types import Batch, Plan, Scenario

from .cases import ADVICE, llm, machine, result


@pytest.fixture(scope="module")
def found() -> list[Advice]:
    return advise(result("llm"), most=20)


def test_every_advice_says_what_its_scenario_does(found: list[Advice]) -> None:
    base = result("llm")
    assert found
    for a in found:
        other = evaluate(a.scenario)
        assert other.fits and a.aim == "faster"
        assert a.rate_ratio == pytest.approx(float(other.throughput) / float(base.throughput))
        assert a.time == (pytest.approx(float(base.tpot)), pytest.approx(float(other.tpot)))
        assert a.time_ratio == pytest.approx(float(other.tpot) / float(base.tpot))
        assert a.peak == pytest.approx(float(other.memory.peak)) and a.peak <= a.capacity


def test_only_what_its_interval_leaves_no_doubt_about_is_told(found: list[Advice]) -> None:
    base = result("llm")
    for a in found:
        ratio = Comparison(base, evaluate(a.scenario)).throughput
        assert a.rate_interval == (pytest.approx(float(ratio.low)), pytest.approx(float(ratio.high)))
        assert 1.0 < a.rate_interval[0] <= a.rate_ratio <= a.rate_interval[1]


def test_a_wider_interval_tells_less(monkeypatch: pytest.MonkeyPatch) -> None:
    base = result("llm")
    everything = {a.kind for a in advise(base, most=20)}

    def changed(phases: list[Phase]) -> dict[str, Change]:
        """What is changed may be off by any factor, whatever the base is off by."""
        return {"all": (0.0, 0.0) if phases[0] is base.phases[0] else (-20.0, 20.0)}

    monkeypatch.setattr("tierwise.comparison.changes", changed)
    assert everything and advise(base, most=20) == []


def test_the_changes_are_those_of_the_scenario(found: list[Advice]) -> None:
    base = result("llm").scenario
    for a in found:
        assert a.changes and isinstance(a.scenario.plan, Plan)
        for c in a.changes:
            if c.field == "traffic.batch":
                assert (c.before, c.after) == (base.traffic.batch, a.scenario.traffic.batch)
            elif c.field == "plan.weights":
                assert str(a.scenario.plan.weights) == c.after != c.before
        if a.kind == "batch":
            assert a.scenario == replace(a.scenario, plan=base.plan, machine=base.machine)


def test_what_was_asked_stays(found: list[Advice]) -> None:
    vllm = advise(evaluate(Scenario(llm(), machine(), Batch(1024.0, 64.0, 16.0), engine="vllm")))
    assert vllm and all(a.scenario.engine == "vllm" for a in vllm)
    assert all(a.scenario.traffic.prompt == 1024.0 for a in found)


def test_where_it_does_not_fit_the_nearest_plans_that_do_are_told() -> None:
    small = evaluate(Scenario(llm(layers=16), machine(memory=3e9), Batch(1024.0, 64.0, 16.0)))
    assert not small.fits
    told = advise(small, most=20)
    assert told and all(a.aim == "fits" and evaluate(a.scenario).fits for a in told)
    for a in told:
        d = advice_words.to_dict(a)
        assert d["rate_ratio"] is None and d["time_ratio"] is None and d["usd_per_million"][0] is None
        assert d["text"].startswith("fits: ")
    assert sum(a.kind == "devices" for a in told) <= 1


def test_json_carries_the_data_and_the_sentence_made_of_it(found: list[Advice]) -> None:
    d = to_dict(result("llm"), found)
    for a, shown in zip(found, d["advice"], strict=True):
        assert shown["title"] == advice_words.title(shown) and shown["text"] == advice_words.text(shown)
        assert seconds(a.time[0]) in shown["text"] and seconds(a.time[1]) in shown["text"]
        for change, c in zip(shown["changes"], a.changes, strict=True):
            assert change == {"field": c.field, "from": c.before, "to": c.after}


@cache
def advised() -> dict[str, Any]:
    return to_dict(result("llm"), ADVICE)


@given(title=st.text(), text=st.text())
def test_no_sentence_is_read_back(title: str, text: str) -> None:
    """What is said beside the advice comes from the data, whatever its titles and sentences are."""
    d = advised()
    shaken = {**d, "advice": [{**a, "title": title, "text": text} for a in d["advice"]]}
    assert d["advice"] and explain_words.why(shaken) == d["text"]["why"]
    assert explain_words.headline(shaken) == d["text"]["headline"]
