"""Deployments as arrays: where a load ends up on a curve, and what every row must satisfy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.search.cases import ask, priced
from tierwise.core.numerics import fmt
from tierwise.memory.account import weight_bytes
from tierwise.models.load import load_model
from tierwise.scenario.types import KV, Plan
from tierwise.search.curves import FLIGHTS, _endless, _room, curves_of
from tierwise.search.deploy import deployment
from tierwise.search.engines import engines
from tierwise.search.family import coefficients, families_of
from tierwise.search.points import _position
from tierwise.serving.closed_loop import closed_loop
from tierwise.serving.coefficients import calibration
from tierwise.serving.deployment import Replicas, Settings
from tierwise.serving.predict import predict
from tierwise.serving.predict import priced as row_prices
from tierwise.serving.pricing import pool_of
from tierwise.serving.recipes import key_of
from tierwise.serving.rows import EngineGroup, ServingRow
from tierwise.serving.steady import aggregated
from tierwise.serving.step_times import ClosedLoopPoint, step_times
from tierwise.steps.corrections import corrections
from tierwise.steps.price import engine_on


def test_position_reaches_the_value() -> None:
    rising = np.array([[1.0, 2.0, 4.0, np.nan]])
    assert np.isnan(_position(rising[:, :3], np.array([[5.0]]))[0, 0])
    at = _position(rising, np.array([[0.5, 1.5, 3.0, 4.0, 5.0]]))[0]
    assert at[0] == 0.0
    np.testing.assert_allclose(at[1:4], [0.5, 1.5, 2.0])
    assert np.isnan(at[4])


@pytest.mark.parametrize("model", ["llama-3.1-8b", "qwen3-30b-a3b"])
def test_engines_divide_the_model(model: str) -> None:
    found = load_model(model)
    question = ask(model=model, on=("8xh100-sxm",))
    fits, not_ = engines(found, question.systems[0])
    heads = 32.0
    assert len(fits.tp)
    assert np.all(heads % fits.tp == 0) and np.all(fits.devices <= 8)
    assert np.all((fits.ep == 1) | (fits.tp * fits.dp % fits.ep == 0))
    assert np.any(fits.ep > 1) == (model != "llama-3.1-8b")
    held = sum(weight_bytes(found, Plan(tp=fits.tp, pp=fits.pp, dp=fits.dp, ep=fits.ep)).values())
    assert np.all(np.asarray(held) < question.systems[0].device.memory.capacity)
    assert not len(not_.tp)


def test_large_model_needs_several_devices() -> None:
    fits, not_ = engines(load_model("llama-3.1-70b"), ask(on=("8xh100-sxm",)).systems[0])
    assert np.all(fits.tp * fits.pp >= 2) and np.any(not_.tp == 1)


@pytest.mark.parametrize("load", [{}, {"rate": 12.0}, {"concurrency": 64.0}])
def test_rows_add_up(load: dict[str, float]) -> None:
    p = priced(**load).points
    assert len(p) > (100 if not load else 15)
    own, first = p.decodes * p.tp * p.pp * p.dp, p.prefills * p.p_tp * p.p_pp * p.p_dp
    np.testing.assert_allclose(own + first, p.devices)
    assert np.all(p.devices <= 4) and np.all(p.ttft > 0) and np.all(p.tpot > 0)
    np.testing.assert_allclose(p.rent, p.devices * ask().systems[0].device.price.rent)
    if "rate" in load:
        np.testing.assert_allclose(p.rate, 12.0)
        # Little's law.
        busy = p.flight > 4 * p.decodes
        np.testing.assert_allclose(p.flight[busy], (p.rate * (p.ttft + 200 * p.tpot))[busy], rtol=0.08)
    elif "concurrency" in load:
        np.testing.assert_allclose(p.flight, 64.0, rtol=1e-6)


def test_curves_are_the_steady_state() -> None:
    """One cell of the curves is what the closed loop says of it alone."""
    question = ask()
    family = families_of(question)[0]
    (curves, *_) = curves_of(question, family)
    v = int(np.flatnonzero((curves.engines.tp == 2) & (curves.engines.pp == 1))[0])
    c = 20
    one = np.ones(1)
    point = ClosedLoopPoint(2 * one, one, one, curves.flight[v, c] * one, 1000 * one, 200 * one, 0 * one)
    client, coef = coefficients(family)
    cache = KV(key=fmt("bf16"), value=fmt("bf16"))
    on = engine_on(family.model, Plan(tp=2 * one, kv=cache), family.system, "vllm", max_seqs=1024)
    alone = aggregated(point, step_times(on, point), _endless(client, 8192.0 * one), coef)
    assert curves.tpot[v, c] == pytest.approx(float(alone.tpot[0]), rel=1e-9)
    assert curves.ttft[v, c] == pytest.approx(float(alone.ttft[0]), rel=1e-9)


def test_disaggregated_curves_are_the_steady_state() -> None:
    """One cell of two engines that prefill beside one that decodes is what the closed loop says of it alone."""
    question = ask()
    family = families_of(question)[0]
    (_, curves) = curves_of(question, family)
    v = int(np.flatnonzero((curves.engines.tp == 1) & (curves.prefill.tp == 1) & (curves.prefills == 2)
                           & (curves.decodes == 1))[0])  # fmt: skip
    c, one = 12, np.ones(1)
    flight = FLIGHTS[c] * one
    assert curves.flight[v, c] == flight
    point = ClosedLoopPoint(one, one, one, flight, 1000 * one, 200 * one, 0 * one)
    client, coef = coefficients(family)
    plan = Plan(tp=one, kv=KV(key=fmt("bf16"), value=fmt("bf16")))
    times = step_times(engine_on(family.model, plan, family.system, "vllm", max_seqs=1024), point)
    alone = closed_loop(point, times, _endless(client, 8192.0 * one), 2.0 * one, coef)
    assert curves.tpot[v, c] == pytest.approx(float(alone.tpot[0]), rel=1e-9)
    assert curves.ttft[v, c] == pytest.approx(float(alone.ttft[0]), rel=1e-9)


@pytest.mark.parametrize(("model", "on", "name"), [("llama-3.1-8b", "4xh100-sxm", "h100_sxm"),
                                                   ("qwen3-32b-fp8", "4xh100-sxm", "h100_sxm"),
                                                   ("deepseek-v3.2", "8xh200-sxm", "h200_sxm"),
                                                   ("qwen3-30b-a3b", "8xb200-sxm", "b200_sxm")])  # fmt: skip
def test_a_planner_and_a_recorded_row_ask_for_the_same_coefficients(model: str, on: str, name: str) -> None:
    family = families_of(ask(model=model, on=(on,)))[0]
    dense, experts = (str(family.model.format_of(role)) for role in ("attn", "expert"))
    row = ServingRow(2, "a", model, name.upper(), "vllm", "", "agg", "", dense, experts, 1000.0, 200.0, 16.0,
                     EngineGroup(8), None, None, None, None)  # fmt: skip
    own, asked = (calibration().of([key]) for key in (replace(key_of(row), client="", build=""), family.key))
    assert all(np.array_equal(own[c], asked[c]) for c in own)
    (p, _) = row_prices([row])
    assert predict(p).basis == (family.basis(disaggregated=False),)


def test_a_planner_and_a_simulation_have_the_same_seconds_around_a_step() -> None:
    for family in families_of(ask(on=("4xh100-sxm",))):
        fixes = corrections(family.engine, family.system.device, family.model.name)
        _, coef = coefficients(family)
        for name, seconds in (("request", fixes.request), ("launch", fixes.launch), ("gap", fixes.gap),
                              ("gap_sequence", fixes.gap_sequence), ("gap_expert", fixes.gap_expert)):
            assert float(coef[name][0]) == seconds


def test_no_more_in_flight_than_memory_holds() -> None:
    question = ask(model="llama-3.1-70b", on=("2xh100-sxm",), prompt=8000.0)
    family = families_of(question)[0]
    for curves in curves_of(question, family):
        for v in range(len(curves.tokens)):
            plan = Plan(tp=curves.engines.tp[v], pp=curves.engines.pp[v])
            held = float(sum(weight_bytes(family.model, plan).values()))
            cache = np.nanmax(curves.flight[v]) / curves.decodes[v] * 8200 * 80 * 2 * 8 * 128 * 2
            devices = curves.engines.tp[v] * curves.engines.pp[v]
            assert held + cache / devices <= 0.9 * family.system.device.memory.capacity


def test_a_row_becomes_a_deployment() -> None:
    answer = priced(rate=12.0)
    for row in np.random.default_rng(0).choice(len(answer.points), 20, replace=False):
        made = deployment(answer.question, answer.families, answer.points, int(row))
        assert made.devices == answer.points.devices[row]
        assert made.rent == pytest.approx(answer.points.rent[row])
        roles = {g.role for g in made.groups}
        assert roles == ({"prefill", "decode"} if answer.points.prefills[row] > 0 else {"both"})


def test_the_longest_request_must_fit_every_engine_it_visits() -> None:
    question = ask(model="llama-3.1-70b", on=("8xh100-sxm",), prompt=1000.0)
    long = replace(question, demand=replace(question.demand, longest=120_000.0))
    (some, *_), (few, *_) = (curves_of(q, families_of(q)[0]) for q in (question, long))
    able, still = (np.isfinite(c.flight).any(axis=1) for c in (some, few))
    assert np.all(able | ~still) and still.any() and able.sum() > still.sum()
    two = (few.engines.tp == 2) & (few.engines.pp == 1)
    assert np.any(able & two) and not np.any(still & two)  # 120,000 tokens are 39 GB of KV


@pytest.mark.parametrize(("model", "on"), [("qwen3-32b", "8xh100-sxm"), ("qwen3-30b-a3b", "4xl40s")])
def test_room_is_that_of_the_engine(model: str, on: str) -> None:
    """The arrays ask the same account of memory as the prices of one engine's steps."""
    question = ask(model=model, on=(on,), prompt=4000.0, output=500.0)
    found, machine = question.model, question.systems[0]
    kinds, _ = engines(found, machine)
    room = _room(question, families_of(question)[0], kinds, 8192.0)
    f = int(np.flatnonzero(FLIGHTS == 4.0)[0])
    seqs = FLIGHTS[f] + 4 * np.sqrt(FLIGHTS[f])
    for i in range(0, len(kinds.tp), 4):
        tp, pp, dp, ep = (float(getattr(kinds, n)[i]) for n in ("tp", "pp", "dp", "ep"))
        one = Replicas(machine, Plan(tp=tp, pp=pp, dp=dp, ep=ep), 1, "both", Settings(max_seqs=seqs, budget=8192))
        pool = pool_of(found, one, 4500.0)
        each = float(4500 * pool.token + pool.fixed)
        assert room[i, f] * pp * dp * each == pytest.approx(float(pool.room), rel=1e-9)
