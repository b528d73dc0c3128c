"""What changes a step changes it for everyone: `explain` and the simulator's tables move together."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

import tierwise as tw
from tierwise.scenario.types import Plan
from tierwise.serving.deployment import Replicas, Settings
from tierwise.serving.pricing import pool_of, step_prices
from tierwise.serving.steps import StepPrices
from tierwise.steps.priced import step_time

MACHINE, TP = "8xh100-sxm", 8.0
# A change of the plan, and whether it makes a step slower (1) or faster (-1).
CHANGES: dict[str, tuple[str, dict[str, Any], int]] = {
    "overlap": ("llama-3-70b", {"overlap": True}, -1),
    "framework": ("llama-3-70b", {"framework": "transformers", "graphs": False}, 1),
    "graphs": ("llama-3-70b", {"graphs": False}, 1),
    "imbalance": ("mixtral-8x7b", {"imbalance": 2.0, "ep": 8.0}, 1),
    "weights": ("llama-3-70b", {"weights": tw.fmt("fp8")}, -1),
}


def tables(model: str, plan: Plan, engine: str) -> StepPrices:
    settings = Settings(engine=engine, max_seqs=64, budget=512, max_len=4096)
    return step_prices(tw.load_model(model), Replicas(tw.load_system(MACHINE), plan, settings=settings))


def looked_up(p: StepPrices, seqs: float, context: float) -> float:
    """A step at nodes of the tables, that decodes."""
    at = int(np.searchsorted(p.graph_sizes, seqs))
    padded, replayed = (p.graph_sizes[at], True) if at < len(p.graph_sizes) else (seqs, False)
    row, column = np.flatnonzero(p.decode_seqs == seqs)[0], np.flatnonzero(p.decode_context == context)[0]
    device = p.tokens[int(padded), 0] + p.heads[int(seqs), 0] + p.decode[row, column, 0] + p.gap_sequence * seqs
    launch = 0.0 if replayed else p.launch
    if not p.joined:
        device, launch = max(device, launch), 0.0
    return float(np.asarray(step_time(device, launch, p.host[0] + p.host[1] * seqs, bool(p.ahead))))


@cache
def both(model: str, engine: str, changes: tuple[tuple[str, Any], ...]) -> tuple[float, float]:
    """A step as `explain` says it, and as the simulator reads it off its tables."""
    plan = replace(Plan(tp=TP, library=True), **dict(changes))
    p = tables(model, plan, engine)
    seqs = float(p.decode_seqs[p.decode_seqs >= 16][0])
    context = float(p.decode_context[p.decode_context >= 500][0])
    r = tw.evaluate(tw.Scenario(model, MACHINE, tw.Batch(context - 0.5, 3.0, seqs), plan, engine=engine))
    return float(np.asarray(r.tpot)), looked_up(p, seqs, context)


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_the_plan_reaches_both(change: str) -> None:
    model, fields, sign = CHANGES[change]
    kept = {"ep": fields["ep"]} if "ep" in fields else {}
    before, after = (both(model, "vllm", tuple(sorted(x.items()))) for x in (kept, fields))
    for said, read in (before, after):
        assert read == pytest.approx(said, rel=1e-9)
    # Sixteen sequences read each expert's weights however many of them come to it, so imbalance shows least.
    assert sign * (after[0] - before[0]) > 1e-4 * before[0]


def test_engines_differ_and_each_says_one_number() -> None:
    steps = [both("qwen3-32b", engine, ()) for engine in ("vllm", "sglang", "trtllm")]
    for said, read in steps:
        assert read == pytest.approx(said, rel=1e-9)
    assert len({round(said, 9) for said, _ in steps}) == 3


@pytest.mark.parametrize("reserve", [0.0, 0.2, 0.3])
@pytest.mark.parametrize(("model", "machine"), [("llama-3.1-8b", "l40s"), ("qwen3-32b", "h100-sxm")])
def test_what_a_plan_reserves_is_missing_from_every_account(model: str, machine: str, reserve: float) -> None:
    """vLLM takes nine tenths of a device, or what the plan leaves it where that is less."""
    length, system, plan = 2048.0, tw.load_system(machine), Plan(reserve=reserve)
    r = tw.evaluate(tw.Scenario(model, machine, tw.Batch(length - 1.0, 2.0, "max"), plan, engine="vllm"))
    pool = pool_of(tw.load_model(model), Replicas(system, plan, settings=Settings(max_seqs=256, budget=8192)), length)
    assert float(np.asarray(r.memory.cache_room)) == float(np.asarray(pool.memory.cache_room))
    room = min(0.9, 1.0 - reserve) * system.device.memory.capacity - system.device.reserve
    left = room - float(np.asarray(r.memory.weight_bytes + r.memory.activations))
    assert float(np.asarray(r.memory.cache_room)) == pytest.approx(max(left, 0.0), rel=1e-9)
    # As many sequences as their caches fit, at 2 x layers x KV heads x width x 2 bytes a token.
    layers, heads = {"llama-3.1-8b": (32, 8), "qwen3-32b": (64, 8)}[model]
    assert float(np.asarray(r.batch)) == float(np.floor(max(left, 0.0) / (2 * layers * heads * 128 * 2 * length)))
