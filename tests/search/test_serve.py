"""Planning serving: what must hold whatever the numbers are."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tests.search.cases import ask, priced
from tierwise.core.errors import BadField
from tierwise.search.judge import cost
from tierwise.search.parts import parts
from tierwise.search.question import Arrivals
from tierwise.search.serve import plan


def best_cost(**asked: object) -> float:
    answer = priced(**asked)
    if not answer.met or answer.best is None:
        return float("inf")
    return float(cost(answer.question, answer.points)[answer.best.row])


@pytest.mark.parametrize("load", [{}, {"rate": 12.0}, {"concurrency": 64.0}])
def test_the_answer_is_the_best_of_all_rows(load: dict[str, float]) -> None:
    answer = priced(**load)
    p, t = answer.points, answer.question.targets
    ok = (p.ttft <= t.ttft) & (p.tpot <= t.tpot)
    price = p.rent * 3600 if load else p.rent / p.rate / 200 * 1e6
    assert answer.met and answer.best is not None
    assert ok[answer.best.row]
    assert price[answer.best.row] == pytest.approx(price[ok].min())


@pytest.mark.parametrize("load", [{}, {"rate": 12.0}, {"concurrency": 64.0}])
def test_tighter_targets_never_cost_less(load: dict[str, float]) -> None:
    costs = [best_cost(**load, ttft=ttft, tpot=tpot)
             for ttft, tpot in ((1.0, 0.05), (0.5, 0.03), (0.3, 0.02), (0.2, 0.012), (0.1, 0.008))]  # fmt: skip
    assert all(a <= b * (1 + 1e-9) for a, b in pairwise(costs))
    assert np.isfinite(costs[0])


def test_a_larger_rate_never_costs_less() -> None:
    costs = [best_cost(rate=r) for r in (1.0, 4.0, 10.0, 20.0, 40.0, 80.0, 1e4)]
    assert all(a <= b * (1 + 1e-9) for a, b in pairwise(costs))
    assert np.isfinite(costs[0]) and costs[-1] == float("inf")


def test_more_budget_is_never_slower() -> None:
    rent = ask().systems[0].device.price.rent
    times = []
    for devices in (1, 2, 3, 4):
        answer = priced(rate=4.0, objective="latency", budget=rent * devices)
        assert answer.best is not None and answer.points.devices[answer.best.row] <= devices
        times.append(float(answer.points.latency(200.0)[answer.best.row]))
    assert all(b <= a * (1 + 1e-9) for a, b in pairwise(times))


def test_more_freedom_is_never_worse() -> None:
    alone = best_cost(modes=("aggregated",))
    assert best_cost() <= alone * (1 + 1e-9)
    assert best_cost(kv=("", "fp8")) <= best_cost() * (1 + 1e-9)
    assert best_cost(budgets=(2048.0, 8192.0)) <= best_cost() * (1 + 1e-9)


def test_objectives_differ_as_they_should() -> None:
    cheap, fast = priced(rate=8.0), priced(rate=8.0, objective="latency")
    assert cheap.best is not None and fast.best is not None
    assert cheap.points.rent[cheap.best.row] <= fast.points.rent[fast.best.row]
    assert fast.points.latency(200.0)[fast.best.row] <= cheap.points.latency(200.0)[cheap.best.row]
    much = priced(objective="throughput")
    assert much.best is not None
    assert much.points.rate[much.best.row] == much.points.rate[much.feasible].max()


def test_the_front_is_complete() -> None:
    answer = priced()
    p, q = answer.points, answer.question
    price, speed = cost(q, p), 1.0 / p.tpot
    usable = p.ttft <= q.targets.ttft
    on = set(answer.front.tolist())
    for i in np.flatnonzero(usable)[::17]:
        beaten = usable & (price <= price[i]) & (speed >= speed[i]) & ((price < price[i]) | (speed > speed[i]))
        equal = [j for j in on if price[j] == price[i] and speed[j] == speed[i]]
        assert beaten.any() or equal


def test_targets_nobody_meets_are_an_answer() -> None:
    answer = priced(ttft=1e-4, tpot=1e-5)
    assert not answer.met and answer.best is not None and not answer.feasible.any()
    missed = np.maximum(answer.points.ttft / 1e-4, answer.points.tpot / 1e-5)
    assert missed[answer.best.row] == pytest.approx(missed.min())


def test_a_rate_nobody_takes_says_what_is_taken() -> None:
    answer = priced(rate=1e5)
    assert not answer.met and answer.best is not None
    p = answer.points
    assert p.rate[answer.best.row] < 1e5
    within = (p.ttft <= 0.5) & (p.tpot <= 0.02)
    assert p.rate[answer.best.row] == pytest.approx(p.rate[within].max())


def test_a_model_too_large_is_an_answer() -> None:
    answer = priced(model="llama-3.1-405b", on=("4xl4",))
    assert not answer.met and answer.best is None
    assert {a.verdict for a in answer.alternatives} == {"memory"}


def test_what_a_model_that_fits_nowhere_would_need() -> None:
    """405e9 weights of 2 bytes need eleven H100 at 0.9 × 80 GB at least, of 1 byte six; degrees are powers of two."""
    alone = {(n.devices, n.weights) for n in priced(model="llama-3.1-405b", on=("1xh100-sxm",)).needs}
    assert alone == {(16, "")}
    node = {(n.devices, n.weights) for n in priced(model="llama-3.1-405b", on=("8xh100-sxm",)).needs}
    assert node == {(16, ""), (8, "fp8")}


def test_a_step_too_large_is_not_a_model_too_large() -> None:
    (need,) = priced(budgets=(1e12,)).needs
    assert need.room


def test_alternatives_say_what_they_lose() -> None:
    answer = priced()
    named = {a.name: a for a in answer.alternatives}
    assert {"TP=1", "TP=2", "TP=4", "aggregated", "disaggregated"} <= set(named)
    assert answer.best is not None
    p, row = answer.points, answer.best.row
    own = {"disaggregated"} if p.prefills[row] > 0 else {"aggregated"}
    if p.prefills[row] == 0 and p.pp[row] == p.dp[row] == p.ep[row] == 1:
        own |= {f"TP={p.tp[row]:g}"}
    assert own <= {a.name for a in answer.alternatives if a.verdict == "chosen"}
    for a in answer.alternatives:
        if a.verdict == "meets":
            assert a.worse >= 1.0 - 1e-9


def test_more_load_is_harder() -> None:
    answer = priced(rate=12.0)
    less, more = (c for c in answer.changes if c.name.startswith("rate"))
    assert less.holds
    assert less.tpot <= more.tpot or np.isnan(more.tpot)
    fast, slow = answer.changes[-2:]
    assert fast.holds and fast.tpot < slow.tpot


def test_several_machines_are_compared() -> None:
    two = best_cost(on=("4xh100-sxm", "4xl40s"))
    assert two == pytest.approx(min(best_cost(on=("4xh100-sxm",)), best_cost(on=("4xl40s",))))


def test_questions_that_cannot_be_asked() -> None:
    for wrong in ({"prompt": 0.0}, {"output": float("nan")}, {"rate": -1.0}, {"rate": float("inf")}, {"ttft": 0.0},
                  {"prompt": 1e7}, {"model": "bert-base"}, {"concurrency": 0.0}):  # fmt: skip
        with pytest.raises(BadField):
            plan(ask(**wrong), confirm=False)  # type: ignore[arg-type]


def test_arrivals_ages_apart_have_a_rate() -> None:
    from tierwise.cli._plan._question import peak
    from tierwise.serving.traffic.trace import trace

    bursts = np.repeat([0.0, 1e13, 2e13], 10) + np.tile(np.arange(10.0), 3)
    found = trace(bursts, np.full(30, 10.0), np.full(30, 5.0))
    # Ten requests in a window each time.
    assert peak(found, "mean") == pytest.approx(10 / 30.0 * found.duration / 29.0)


def test_shared_prefixes_make_it_cheaper() -> None:
    question = ask(rate=20.0)
    shared = replace(question, demand=Arrivals(1000.0, 200.0, 20.0, shared=0.6))
    plain, cached = plan(question, confirm=False), plan(shared, confirm=False)
    assert plain.best is not None and cached.best is not None
    assert cached.points.rent[cached.best.row] <= plain.points.rent[plain.best.row]


def test_the_python_of_the_docs_runs() -> None:
    path = Path(__file__).resolve().parents[2] / "docs" / "planning.md"
    (block,) = re.findall(r"^```python\n(.*?)^```$", path.read_text(encoding="utf-8"), re.S | re.M)
    names: dict[str, object] = {}
    exec(compile(block, str(path), "exec"), names)
    assert names["answer"].met  # type: ignore[attr-defined]


def test_engines_run_where_their_documentation_says() -> None:
    with pytest.raises(BadField, match="trtllm"):
        plan(replace(ask(on=("4xmi300x",)), engines=("trtllm",)), confirm=False)
    both = plan(replace(ask(on=("2xmi300x", "2xh100-sxm")), engines=("vllm", "trtllm")), confirm=False)
    assert {(f.engine, f.system.device.vendor) for f in both.families} == {
        ("vllm", "AMD"), ("vllm", "NVIDIA"), ("trtllm", "NVIDIA")}  # fmt: skip
    names = [a.name for a in both.alternatives]
    assert len(names) == len(set(names)) and {"vllm", "trtllm"} <= set(names)


def test_shares_of_a_decode_step_add_up() -> None:
    answer = priced()
    shares = parts(answer, [0, 5, len(answer.points) - 1])
    for x in shares:
        assert sum(x.values()) == pytest.approx(1.0) and all(v >= 0 for v in x.values())
    p = answer.points
    wide, alone = (int(np.flatnonzero((p.prefills == 0) & (p.tp == tp) & (p.pp == 1))[0]) for tp in (4, 1))
    a, b = parts(answer, [wide, alone])
    assert a["collective"] > b["collective"] == 0.0


def test_throughput_for_a_given_rate_is_headroom() -> None:
    answer = priced(rate=8.0, objective="throughput")
    assert answer.best is not None
    p = answer.points
    assert p.capacity[answer.best.row] == pytest.approx(p.capacity[answer.feasible].max())
    assert p.capacity[answer.best.row] > 8.0


def test_a_change_that_only_the_busiest_time_feels_is_not_called_a_missed_target() -> None:
    from tierwise.report.plan_words import changed

    question = {"ttft_s": 1.0, "tpot_s": 0.05, "load": "open", "confidence": 80}
    change = {"name": "rate +20%", "holds": False, "expected": False, "ttft_s": 0.6, "tpot_s": 0.04, "best": None}
    d = {"question": question, "met": True}
    assert "falls behind at the busiest time" in changed(d, change)
    assert "misses the targets" in changed(d, change | {"tpot_s": 0.06})
    assert "still meets the targets" in changed(d, change | {"holds": True})
    assert "should meet the targets, not with 80 % confidence" in changed(d, change | {"expected": True})
