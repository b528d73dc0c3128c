"""The simulator has the last word, and the search for what holds there misses nothing that matters."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.search.cases import ask, priced
from tierwise.report.plan_data import to_dict
from tierwise.search.answer import Answer
from tierwise.search.confirm import Simulated, played, simulated, traffic
from tierwise.search.constants import CONSTANTS
from tierwise.search.deploy import deployment
from tierwise.search.finalists import finalists, value
from tierwise.search.judge import cost
from tierwise.search.question import STATISTICS
from tierwise.search.serve import plan


def run_of(answer: Answer, row: int, slower: float = 1.0, up: bool = True) -> Simulated:
    """A run that shows the steady state's times, so many times slower."""
    p = answer.points
    ttft, tpot = slower * float(p.ttft[row]), slower * float(p.tpot[row])
    return Simulated(dict.fromkeys(STATISTICS, ttft), dict.fromkeys(STATISTICS, tpot), float(p.rate[row]), 100, up)


@pytest.mark.parametrize("load", [{}, {"rate": 12.0}, {"concurrency": 64.0}])
def test_a_simulator_that_agrees_changes_nothing(load: dict[str, float]) -> None:
    answer = priced(**load)
    found = finalists(answer, lambda row: run_of(answer, row))
    assert found.met and found.best is not None and answer.best is not None
    assert answer.score[found.best.row] == pytest.approx(answer.score[answer.best.row], rel=1.1e-2)


@pytest.mark.parametrize("load", [{}, {"rate": 12.0}, {"concurrency": 64.0}])
@pytest.mark.parametrize("slower", [1.15, 0.85])
def test_a_simulator_that_is_off_everywhere_alike(load: dict[str, float], slower: float) -> None:
    """Then the answer is the best of all rows with corrected times."""
    answer = priced(**load)
    p, t = answer.points, answer.question.targets
    found = finalists(answer, lambda row: run_of(answer, row, slower))
    ok = (slower * p.ttft <= t.ttft) & (slower * p.tpot <= t.tpot)
    assert found.met and found.best is not None and ok[found.best.row]
    assert answer.score[found.best.row] == pytest.approx(answer.score[ok].min(), rel=1.1e-2)


def test_nothing_that_is_said_to_be_met_is_better_than_the_answer() -> None:
    """At 80 % confidence a cheaper load meets the targets at face value only: that is said, and not called met."""
    answer = priced(confidence=80, tpot=0.012)
    found = finalists(answer, lambda row: run_of(answer, row))
    d = to_dict(found)
    runs = [e["simulated"] for e in d["finalists"]]
    assert all(run["meets"] for run in runs if run["surely"])
    paid = {e["in_flight"]: e["usd_per_million"] for e in d["finalists"] if e["simulated"]["surely"]}
    assert min(paid.values()) >= d["answer"]["usd_per_million"] * (1.0 - CONSTANTS["runs.gain"])
    unsure = [e for e in d["finalists"] if e["simulated"]["meets"] and not e["simulated"]["surely"]]
    assert any(e["usd_per_million"] < d["answer"]["usd_per_million"] for e in unsure)
    assert "with 80 % confidence" in d["text"]["headline"]


def test_what_falls_behind_is_not_chosen() -> None:
    """Disaggregated deployments are made to fall behind: the answer is the best aggregated one."""
    answer = priced(rate=12.0)
    p = answer.points
    found = finalists(answer, lambda row: run_of(answer, row, up=p.prefills[row] == 0))
    assert found.met and found.best is not None and p.prefills[found.best.row] == 0
    ok = answer.feasible & (p.prefills == 0)
    assert answer.score[found.best.row] == pytest.approx(answer.score[ok].min())


def test_nothing_holds() -> None:
    answer = priced(rate=12.0)
    found = finalists(answer, lambda row: run_of(answer, row, 50.0))
    assert not found.met and found.best is not None and not found.feasible.any()
    assert len(found.finalists) >= 5


def test_the_runner_up_is_of_another_layout_and_no_better() -> None:
    answer = priced(rate=12.0)
    found = finalists(answer, lambda row: run_of(answer, row))
    p = answer.points
    assert found.best is not None and found.runner_up is not None
    a, b = found.best.row, found.runner_up.row
    assert any(getattr(p, n)[a] != getattr(p, n)[b] for n in ("tp", "pp", "dp", "ep", "p_tp", "p_pp"))
    assert answer.score[b] >= answer.score[a] * (1 - 1.1e-2)


def test_traffic_is_the_same_every_time() -> None:
    question = ask(rate=10.0)
    (a, first, last), (b, _, _) = traffic(question, 30.0), traffic(question, 30.0)
    assert np.array_equal(a.arrival, b.arrival) and np.array_equal(a.prompt, b.prompt)
    assert 0 < first < last == len(a)
    assert len(a) / a.duration == pytest.approx(10.0, rel=0.15)
    assert a.prompt.mean() == pytest.approx(1000.0, rel=0.02) and a.output.mean() == pytest.approx(200.0, rel=0.02)
    closed, _, _ = traffic(ask(concurrency=32.0), 32.0)
    assert closed.closed_loop == 32


@pytest.mark.parametrize("load", [{"rate": 20.0}, {"concurrency": 48.0}])
def test_the_plan_is_what_simulating_everything_finds(load: dict[str, float]) -> None:
    """A space so small that each of its deployments can be played."""
    pytest.importorskip("numba")
    question = ask(**load, on=("2xh100-sxm",), modes=("aggregated",), tpot=0.014)  # type: ignore[arg-type]
    answer = plan(question)
    p = answer.points
    assert len(p) <= 12
    values = []
    for row in range(len(p)):
        run = simulated(question, deployment(question, answer.families, p, row), float(p.flight[row]))
        values.append(value(answer, row, run) if run.meets(question) else np.inf)
    assert answer.best is not None
    assert answer.met == bool(np.isfinite(min(values)))
    if answer.met:
        assert values[answer.best.row] == pytest.approx(min(values), rel=1.1e-2)


def test_finalists_fit_in_memory() -> None:
    pytest.importorskip("numba")
    from tierwise.serving.pricing import step_prices

    answer = plan(ask(model="llama-3.1-70b", on=("4xh100-sxm",), rate=4.0, ttft=2.0, tpot=0.05, modes=("aggregated",)))
    assert answer.finalists
    for choice in answer.finalists:
        made = deployment(answer.question, answer.families, answer.points, choice.row)
        for group in made.groups:
            prices = step_prices(made.model, group)
            assert prices.kv_room >= 1200 * prices.kv_token


def test_a_percentile_asks_for_more_than_the_mean() -> None:
    """The same runs judged by p99: what holds there holds in the mean."""
    answer = priced(rate=12.0)
    hard = replace(answer, question=replace(answer.question, targets=replace(answer.question.targets, statistic="p99")))

    def play(row: int) -> Simulated:
        run = run_of(answer, row)
        return replace(
            run, ttft={**run.ttft, "p99": 1.4 * run.ttft["mean"]}, tpot={**run.tpot, "p99": 1.2 * run.tpot["mean"]}
        )

    mean, tail = finalists(answer, play), finalists(hard, play)
    assert mean.best is not None and tail.best is not None
    assert answer.score[tail.best.row] >= answer.score[mean.best.row] * (1 - 1.1e-2)


def test_what_turns_requests_away_does_not_hold() -> None:
    answer = priced(rate=12.0)
    p = answer.points
    found = finalists(answer, lambda row: replace(run_of(answer, row), rejected=int(p.tp[row] == 1)))
    assert found.met and found.best is not None and p.tp[found.best.row] > 1


def saturated(answer: Answer, row: int) -> Simulated:
    """A run whose prefilling engines are short: few requests ever decode, so tokens come fast, after a long wait."""
    run = run_of(answer, row)
    if answer.points.prefills[row] == 0:
        return run
    return replace(run, ttft=dict.fromkeys(STATISTICS, 20 * run.ttft["mean"]), rate=0.6 * run.rate,
                   tpot=dict.fromkeys(STATISTICS, 0.3 * run.tpot["mean"]))  # fmt: skip


def test_a_queue_elsewhere_makes_no_token_faster() -> None:
    """What starved decoding engines did in one run is promised of no other deployment or load."""
    answer = priced(ttft=np.inf, tpot=np.inf, modes=("disaggregated",))
    found = finalists(answer, lambda row: saturated(answer, row))
    assert found.corrected is not None
    others = np.ones(len(answer.points), dtype=bool)
    others[[c.row for c in found.finalists]] = False
    np.testing.assert_allclose(found.corrected.tpot[others], answer.points.tpot[others])
    assert np.all(found.corrected.rate <= answer.points.rate * (1 + 1e-9))
    # Little's law: what is in flight is served at that rate.
    held = found.corrected.rate * (found.corrected.ttft + 200 * found.corrected.tpot)
    assert np.all(held[others] >= answer.points.flight[others] * (1 - 1e-6))


@pytest.mark.parametrize("load", [{}, {"concurrency": 64.0}])
def test_no_correction_makes_a_request_faster_than_alone(load: dict[str, float]) -> None:
    answer = priced(**load, ttft=np.inf, tpot=np.inf)
    found = finalists(answer, lambda row: run_of(answer, row, 0.4))
    assert found.corrected is not None and np.all(answer.points.alone <= answer.points.tpot * (1 + 1e-9))
    others = np.ones(len(answer.points), dtype=bool)
    others[[c.row for c in found.finalists]] = False
    assert np.all(found.corrected.tpot[others] >= answer.points.alone[others] * (1 - 1e-9))


@pytest.mark.parametrize("load", [{}, {"rate": 12.0}, {"concurrency": 64.0}])
def test_the_front_is_of_what_was_simulated(load: dict[str, float]) -> None:
    """Nothing is on it that was not played, as it was seen; nothing there that keeps the targets beats the answer."""
    pytest.importorskip("numba")
    answer = plan(ask(**load, on=("2xh100-sxm",), tpot=0.014))  # type: ignore[arg-type]
    assert answer.best is not None and answer.best.simulated is not None and answer.met and len(answer.front) > 1
    runs = {c.row: c.simulated for c in answer.finalists}
    p, t = answer.known, answer.question.targets
    best = value(answer, answer.best.row, answer.best.simulated)
    for row in answer.front:
        run = runs[int(row)]
        assert run is not None and run.tpot["mean"] == p.tpot[row] and run.ttft["mean"] == p.ttft[row] <= t.ttft
        if run.meets(answer.question):
            # Less is within what one run can tell; among equals the faster one is the answer.
            assert value(answer, int(row), run) >= best * (1 - CONSTANTS["runs.gain"])
    paid = cost(answer.question, p)
    assert paid[answer.front].min() <= paid[answer.best.row] * (1 + 1e-9)


def test_what_is_played_is_bounded() -> None:
    """Where every run is long, best, runner-up and other mode are played and no front beside them."""
    answer = priced(on=("512xh100-sxm",), ttft=np.inf, tpot=np.inf)
    found = finalists(answer, lambda row: run_of(answer, row))
    lengths = [played(answer.question, float(answer.points.flight[c.row])) for c in found.finalists]
    assert max(lengths) > 200_000 and len(lengths) <= 4


def test_a_plan_holds_no_queue() -> None:
    """Engines that serve 0.6 of what is promised: the load is chosen at which they do, not one that waits."""
    answer = priced(ttft=np.inf, tpot=np.inf, modes=("aggregated",))
    p = answer.points

    def play(row: int) -> Simulated:
        run, flight = run_of(answer, row), float(p.flight[row])
        rate = min(run.rate, 0.6 * float(p.limit[row]))
        waits = max(flight / rate - 200 * run.tpot["mean"], run.ttft["mean"])
        return replace(run, rate=rate, ttft=dict.fromkeys(STATISTICS, waits))

    found = finalists(answer, play)
    assert found.best is not None and found.best.simulated is not None and found.runner_up is not None
    best = min(value(answer, r, play(r)) for r in range(len(p)))
    for choice in (found.best, found.runner_up):
        run = choice.simulated
        assert run is not None
        enough = (p.variant == p.variant[choice.row]) & (p.rate >= run.rate * (1 - 1e-9))
        assert p.flight[choice.row] <= 1.3 * p.flight[enough].min() and run.ttft["mean"] < 1.0
    assert value(answer, found.best.row, found.best.simulated) <= best * 1.03
