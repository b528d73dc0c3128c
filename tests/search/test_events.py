"""Finalists are played event by event, and the plan says where that is not what they were priced with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.search.cases import ask
from tierwise.machines import system
from tierwise.models.load import load_model
from tierwise.report.plan_data import to_dict
from tierwise.scenario.types import Plan
from tierwise.schedule import order
from tierwise.schedule.play import play
from tierwise.schedule.types import Demand
from tierwise.search import events, serve
from tierwise.search.answer import Answer, Choice
from tierwise.search.events import off
from tierwise.serving.deployment import Replicas, Settings


@pytest.mark.parametrize("own", [(1.0, 1.0), (1.0, 3.0, 2.0), (2.0, 1.0, 1.0, 1.0)])
@pytest.mark.parametrize("flying", [1, 2, 9])
def test_a_round_takes_what_the_slowest_stage_does_or_a_pass_where_too_few_fly(
    own: tuple[float, ...], flying: int
) -> None:
    made = order("rounds", stages=len(own), micro_batches=flying)
    done = play(made, [Demand(x) for x in own], events=True)
    ends = [e.end for e in done.events if e.op == len(own) - 1]
    assert ends[-1] - ends[-1 - flying] == pytest.approx(max(flying * max(own), sum(own)))


def group(pp: float, model: str = "llama-3.1-8b", **plan: object) -> tuple[Replicas, object]:
    found = Plan(pp=pp, **plan)  # type: ignore[arg-type]
    return Replicas(system("8xh100-sxm"), found, settings=Settings(engine="vllm")), load_model(model)


@pytest.mark.parametrize("pp", [2.0, 3.0, 8.0])
def test_the_pace_of_a_pipeline_is_what_its_slowest_stage_makes_of_it(pp: float) -> None:
    replicas, model = group(pp)
    assert off(model, replicas, 16.0 * pp, 900.0, 200.0) == pytest.approx(0.0, abs=1e-9)  # type: ignore[arg-type]


@pytest.mark.parametrize("pp", [2.0, 3.0])
def test_equal_stages_would_be_found_out(pp: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The output head makes the last stage longer, and 32 layers do not divide by 3."""
    replicas, model = group(pp)
    monkeypatch.setattr(events, "slowest", lambda *_: 1.0)
    assert off(model, replicas, 16.0 * pp, 900.0, 200.0) > 0.01  # type: ignore[arg-type]


def test_one_stage_and_schedules_with_exact_array_forms_are_what_they_were_priced_with() -> None:
    for plan in ({}, {"tp": 8.0, "schedule": "two_batches"}, {"tp": 4.0, "overlap": True}):
        replicas, model = group(1.0, **plan)
        assert off(model, replicas, 32.0, 900.0, 200.0) == pytest.approx(0.0, abs=1e-9)  # type: ignore[arg-type]


def test_a_plan_says_where_events_are_not_what_it_priced(monkeypatch: pytest.MonkeyPatch) -> None:
    def several(answer: Answer) -> Answer:
        p = answer.points
        rows = [int(np.flatnonzero(p.pp == pp)[0]) for pp in (1.0, 4.0)]
        return replace(answer, finalists=tuple(map(Choice, rows)), best=Choice(rows[1]), runner_up=Choice(rows[0]))

    monkeypatch.setattr(serve, "finalists", lambda answer, **_: several(answer))
    agreed = serve.plan(ask())
    assert [c.events for c in agreed.finalists] == pytest.approx([0.0, 0.0], abs=1e-9)
    assert not any("Event by event" in line for line in to_dict(agreed)["text"]["rests"])
    monkeypatch.setattr(events, "slowest", lambda *_: 1.0)
    answer = serve.plan(ask())
    alone, staged = answer.finalists
    assert alone.events == 0.0 and staged.events > 0.01 and answer.best == staged
    found = to_dict(answer)
    assert found["answer"]["events_off"] == staged.events
    assert any("Event by event" in line and "longer" in line for line in found["text"]["rests"])
