"""Experts that memory holds by how often they are chosen, and what predictors of them are worth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tierwise.core.errors import BadField, TierwiseError
from tierwise.core.numerics import fmt
from tierwise.evaluation import evaluate
from tierwise.machines import system
from tierwise.models.load import load_model
from tierwise.program.residency import held_experts, missed_experts, popularity, random_lru, skew_of
from tierwise.scenario.types import Batch, Plan, Scenario
from tierwise.techniques.tiers import read_from_disk


def traced_hits(chosen: np.ndarray, capacity: int, warm: int = 0) -> float:
    """Share of a trace's choices found in a cache that lets go of what was used longest ago.

    Args:
        chosen: numbers of the experts in the order they are used.
        warm: choices at the start that fill it and are not counted; 0 starts cold.
    """
    kept: dict[int, None] = {}
    hits = 0
    for i, expert in enumerate(chosen.tolist()):
        if expert in kept:
            del kept[expert]
            hits += i >= warm
        elif len(kept) >= capacity:
            del kept[next(iter(kept))]
        kept[expert] = None
    return hits / max(len(chosen) - warm, 1)


def drawn(experts: int, skew: float, count: int, seed: int = 0) -> np.ndarray:
    """Experts in the order that tokens choose them, their numbers in no order of popularity."""
    rng = np.random.default_rng(seed)
    return rng.permutation(experts)[rng.choice(experts, count, p=popularity(experts, skew))]


@pytest.mark.parametrize("skew", [0.0, 0.6, 1.2])
@pytest.mark.parametrize("room", [8, 32, 56])
def test_hits_are_those_of_a_cache_that_is_simulated(skew: float, room: int) -> None:
    simulated = traced_hits(drawn(64, skew, 40_000), room, warm=5000)
    assert 1.0 - missed_experts(1.0 - room / 64, 64, 1.0, skew) == pytest.approx(simulated, abs=0.015)


def test_the_cache_is_full_and_the_popular_are_likelier_in_it() -> None:
    held = held_experts(popularity(128, 0.9), np.asarray([16.0, 64.0, 128.0]))
    np.testing.assert_allclose(held.sum(-1), [16.0, 64.0, 128.0], rtol=1e-6)
    assert np.all(np.diff(held[:2]) <= 0.0)


def test_alike_often_misses_what_has_no_room_and_many_draws_need_all() -> None:
    assert missed_experts(0.3, 64, 8.0, 0.0) == pytest.approx(1.0 - random_lru(1.0, 0.7))
    few, many, most = (missed_experts(0.3, 64, n, 1.0) for n in (1.0, 64.0, 1e6))
    assert few < many < most == pytest.approx(0.3, rel=1e-3)
    np.testing.assert_allclose(missed_experts(np.asarray([0.3, 0.6]), 64, 8.0, 1.0),
                               [missed_experts(x, 64, 8.0, 1.0) for x in (0.3, 0.6)])  # fmt: skip


@pytest.mark.parametrize("skew", [0.0, 0.5, 1.1])
def test_the_exponent_of_a_trace_is_found(skew: float) -> None:
    assert skew_of(drawn(64, skew, 50_000), 64) == pytest.approx(skew, abs=0.05)


def test_a_cold_cache_finds_less_than_a_warm_one() -> None:
    trace = drawn(64, 0.8, 600)
    assert traced_hits(trace, 48) < traced_hits(trace, 48, warm=300)


def decoding(**said: float) -> Scenario:
    s = Scenario(load_model("mixtral-8x7b"), system("m3-max-64gb + nvme-gen4"), Batch(512.0, 64.0, 1.0),
                 Plan(weights=fmt("q4_0")), engine="llama.cpp")  # fmt: skip
    return s.apply(read_from_disk(0.5, experts=True, **said))


def copied(s: Scenario, phase: str) -> float:
    ops = evaluate(s).phase(phase).ops
    return sum(float(np.max(x.segment.repeat * x.op.dims["bytes"])) for x in ops if x.op.kind == "copy")


def test_popular_experts_are_read_less_in_decode_and_not_in_prefill() -> None:
    alike, skewed = decoding(), decoding(skew=1.0)
    wanted = missed_experts(0.5, 8, 2.0, 1.0) / 0.5
    assert copied(skewed, "decode") == pytest.approx(wanted * copied(alike, "decode"))
    assert copied(skewed, "prefill") == pytest.approx(copied(alike, "prefill"), rel=0.01)
    assert evaluate(skewed).memory.peak == evaluate(alike).memory.peak  # what lies where is the same


def test_a_predictor_that_is_right_hides_reading_and_one_that_is_wrong_reads_more() -> None:
    """Read ahead of the router is worth what it foresees; what it takes for another is read twice."""

    def time(foreseen: float) -> float:
        s = decoding(foreseen=foreseen)
        return float(evaluate(replace(s, plan=replace(s.plan, schedule="prefetch:ahead=1"))).phase("decode").pass_time)

    right, half, wrong = time(1.0), time(0.5), time(0.0)
    assert right < half < wrong
    assert copied(decoding(foreseen=0.75), "decode") == pytest.approx(1.25 * copied(decoding(), "decode"))


def test_numbers_that_cannot_be_are_refused() -> None:
    for said in ({"skew": -1.0}, {"skew": 9.0}, {"foreseen": 1.5}):
        with pytest.raises(BadField):
            decoding(**said)
    with pytest.raises(TierwiseError, match="of experts"):
        Scenario(load_model("llama-3.1-8b"), system("m3-max-64gb + nvme-gen4"), Batch(8.0, 2.0, 1.0)).apply(
            read_from_disk(0.5, skew=1.0)
        )
