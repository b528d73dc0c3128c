"""Scenarios and results are values: they hash, travel between processes, and stay what they were."""

from __future__ import annotations

import pickle

import pytest

import tierwise as tw
from tierwise import techniques as t

S = tw.Scenario("llama-3.1-8b", "8xh100-sxm", tw.Batch(512.0, 64.0, 8.0), tw.Plan(tp=8.0))
CHANGED = {
    "plain": S,
    "cache": S.apply(t.quantize_kv(bits=4), t.slide_window(128)),
    "schedule": S.apply(t.ladder_residual()),
    "a model as a value": S.apply(t.rebuild_keys(160, 8, 1024)),
}


@pytest.mark.parametrize("name", CHANGED)
def test_a_scenario_travels_and_hashes(name: str) -> None:
    s = CHANGED[name]
    back = pickle.loads(pickle.dumps(s))
    assert back == s and hash(back) == hash(s)
    assert hash(back.resolved()) == hash(s.resolved())
    assert {s: 1}[back] == 1
    others = [x for k, x in CHANGED.items() if k != name]
    assert all(x != s for x in others) and len({hash(x) for x in (s, *others)}) == len(CHANGED)


@pytest.mark.parametrize("name", CHANGED)
def test_a_result_travels_before_and_after_it_was_asked(name: str) -> None:
    r = tw.evaluate(CHANGED[name])
    fresh = pickle.loads(pickle.dumps(r))
    numbers = (r.time, r.tpot, r.energy, r.memory.peak, r.interval)
    assert (fresh.time, fresh.tpot, fresh.energy, fresh.memory.peak, fresh.interval) == numbers
    again = pickle.loads(pickle.dumps(r))
    assert (again.time, again.tpot, again.energy, again.memory.peak, again.interval) == numbers
    assert again.phase("decode").cost.executed[1].time == pytest.approx(r.phase("decode").cost.executed[1].time)
