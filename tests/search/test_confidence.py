"""A plan holds at the confidence asked for, and no machine wins by what nobody knows of it."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from tests.search.cases import ask, machine
from tierwise.machines.types import System
from tierwise.search.answer import Answer
from tierwise.search.confidence import DEVIATIONS, slower
from tierwise.search.confirm import Simulated
from tierwise.search.family import families_of
from tierwise.search.finalists import finalists
from tierwise.search.judge import cost, feasible, on_front
from tierwise.search.question import STATISTICS, Question
from tierwise.search.serve import plan


def unmeasured(cheaper: float) -> System:
    """An H100 under another name, of a family whose kernels nobody measured, at a share of its rent."""
    known = machine("4xh100-sxm")
    price = replace(known.device.price, rent=known.device.price.rent * cheaper)
    return replace(known, name="4xnew", device=replace(known.device, name="new-gpu", family="rdna3", price=price))


def answered(question: Question, *systems: System) -> Answer:
    return plan(replace(question, systems=systems), confirm=False)


def test_an_unmeasured_card_does_not_win_by_optimism() -> None:
    question = ask(tpot=0.05)
    alone = [answered(question, s) for s in (machine("4xh100-sxm"), unmeasured(1.0))]
    measured, new = (float(cost(a.question, a.points)[a.best.row]) for a in alone if a.best is not None)
    # A little better at face value.
    both = machine("4xh100-sxm"), unmeasured(0.97 * measured / new)
    device = {}
    for confidence in DEVIATIONS:
        found = answered(replace(question, confidence=confidence), *both)
        assert found.met and found.best is not None and found.rival is not None
        device[confidence] = found.families[int(found.points.family[found.best.row])].system.device.name
        if confidence > 50:
            assert found.rival.device == "new-gpu" and found.rival.face == pytest.approx(0.97, rel=0.01)
            assert found.rival.surely > 1.0 and found.rival.uncertainty == 1.0
    assert device == {50: "new-gpu", 80: "h100-sxm", 90: "h100-sxm"}


def test_more_confidence_is_never_faster_nor_cheaper() -> None:
    known, new = (
        [slower(replace(ask(), systems=(s,), confidence=c), f) for c in DEVIATIONS
         for f in families_of(replace(ask(), systems=(s,)))]
        for s in (machine("4xh100-sxm"), unmeasured(1.0))
    )  # fmt: skip
    assert known[0].aggregated == (1.0, 1.0)
    for a, b in pairwise(known):
        assert all(x < y for x, y in zip(a.aggregated, b.aggregated, strict=True))
    assert all(x >= y for a, b in zip(new, known, strict=True) for x, y in zip(a.aggregated, b.aggregated, strict=True))
    paid = []
    for confidence in DEVIATIONS:
        found = plan(ask(rate=60.0, confidence=confidence), confirm=False)
        assert found.best is not None
        paid.append(float(found.points.rent[found.best.row]) if found.met else np.inf)
    assert paid == sorted(paid)


@pytest.mark.parametrize("load", [{}, {"rate": 12.0}, {"concurrency": 64.0}])
def test_the_answer_lies_on_its_front_and_ties_go_to_the_faster(load: dict[str, float]) -> None:
    found = plan(ask(**load, confidence=80), confirm=False)  # type: ignore[arg-type]
    assert found.met and found.best is not None
    assert found.best.row in found.front
    row, p = found.best.row, found.points
    assert feasible(found.question, p)[row]
    assert p.ttft[row] * p.slow_ttft[row] <= 0.5 and p.tpot[row] * p.slow_tpot[row] <= 0.02
    same = found.feasible & (np.abs(found.score - found.score[row]) <= 1e-9 * found.score[row])
    assert p.surely.tpot[row] == pytest.approx(p.surely.tpot[same].min())


def test_the_least_that_runs_the_model_is_the_least() -> None:
    """Where the answer says so, a tenth of the load takes as many devices; where it takes fewer, it does not say so."""
    said = set()
    for rate in (0.2, 2.0, 8.0, 40.0):
        found = plan(ask(model="llama-2-70b", on=("8xh100-sxm",), rate=rate, ttft=5.0, tpot=0.2), confirm=False)
        least = plan(ask(model="llama-2-70b", on=("8xh100-sxm",), rate=rate / 100, ttft=5.0, tpot=0.2), confirm=False)
        if found.met and found.best is not None and least.best is not None:
            smaller = least.points.devices[least.best.row] < found.points.devices[found.best.row]
            assert not (smaller and found.binding[0] == "load")
            said.add(found.binding[0])
    assert "load" in said


def test_front_and_answer_are_of_the_statistic_that_targets_hold_for() -> None:
    """A 99th percentile twice the mean: what lies on the front is drawn with it, and the answer holds with it."""
    answer = plan(ask(statistic="p99", rate=12.0, ttft=2.0, tpot=0.04), confirm=False)
    p = answer.points

    def play(row: int) -> Simulated:
        ttft, tpot = float(p.ttft[row]), float(p.tpot[row])
        times = [{name: x * (2.0 if name == "p99" else 1.0) for name in STATISTICS} for x in (ttft, tpot)]
        return Simulated(times[0], times[1], float(p.rate[row]), 100, True)

    found = finalists(answer, play)
    assert found.met and found.best is not None and found.best.simulated is not None
    assert found.best.simulated.tpot["p99"] <= 0.04
    runs = {c.row: c.simulated for c in found.finalists}
    for row in set(on_front(found.question, found.known).tolist()) & set(runs):
        run = runs[row]
        assert run is not None and found.known.tpot[row] == pytest.approx(run.tpot["p99"])
