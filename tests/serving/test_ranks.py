"""Data-parallel ranks of one engine: a request runs on one of them, and the busiest sets the pace of all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("numba")

import tierwise as tw
from tierwise.machines import system
from tierwise.serving.deployment import Deployment, Replicas, Settings
from tierwise.serving.outcome import SimulatedRun
from tierwise.serving.pricing import engine_of
from tierwise.serving.simulate import simulate
from tierwise.serving.traffic.trace import trace
from tierwise.steps.price import price_step
from tierwise.steps.state import Chunk, StepState


def settings(engine: str) -> Settings:
    return Settings(engine=engine, budget=2048, max_seqs=64, max_len=32768)


def played(model: str, machine: str, plan: tw.Plan, prompts: list[int], output: int, engine: str) -> SimulatedRun:
    """Requests that come together, of so many tokens each."""
    served = Deployment(tw.load_model(model), (Replicas(system(machine), plan, settings=settings(engine)),))
    return simulate(trace([0.0] * len(prompts), prompts, [output] * len(prompts)), served)


@pytest.mark.parametrize("seed", range(6))
def test_a_request_alone_is_as_fast_on_many_dense_ranks_as_on_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    prompt, engine, ranks = int(rng.integers(1, 12000)), str(rng.choice(["vllm", "sglang", "trtllm"])), seed % 3 + 2
    machine, found, said = f"8x{rng.choice(['h100-sxm', 'l40s'])}", {}, {}
    for dp in (1.0, float(ranks)):
        plan = tw.Plan(dp=dp, tp=2.0, chunk=2048.0)
        run = played("llama-3.1-8b", machine, plan, [prompt], 40, engine)
        found[dp] = (run.requests.first[0], run.requests.last[0])
        r = tw.evaluate(tw.Scenario("llama-3.1-8b", machine, tw.Batch(float(prompt), 40.0, 1.0), plan, engine=engine))
        said[dp] = (float(np.asarray(r.ttft)), float(np.asarray(r.tpot)))
        assert found[dp][0] - r.request_overhead == pytest.approx(said[dp][0], rel=5e-3)
        assert (found[dp][1] - found[dp][0]) / 39.0 == pytest.approx(said[dp][1], rel=5e-3)
    assert said[1.0] == pytest.approx(said[float(ranks)], rel=1e-12)
    # Tables of more ranks have their nodes elsewhere.
    assert found[1.0] == pytest.approx(found[float(ranks)], rel=2e-3)


@pytest.mark.parametrize(("model", "prompts"), [("mixtral-8x7b", [900]), ("qwen3-30b-a3b", [3000, 1700, 800]),
                                                ("qwen3-30b-a3b", [500] * 8)])  # fmt: skip
def test_ranks_that_share_experts_wait_for_the_busiest_and_its_experts_see_all_tokens(
    model: str, prompts: list[int]
) -> None:
    plan = tw.Plan(dp=8.0, ep=8.0)
    run = played(model, "8xh100-sxm", plan, prompts, 2, "vllm")
    on = engine_of(tw.load_model(model), Replicas(system("8xh100-sxm"), plan, settings=settings("vllm")))
    # The first step: a chunk of each prompt on a rank of its own, a token of no request on the others.
    first = [min(p, 2048) for p in prompts]
    rows = sum(first) + 8 - len(first)
    balance = rows / 8.0 / max(first)
    state = StepState(chunks=(Chunk(float(max(first)), 0.0, 1.0),), balance=balance)
    expected = float(np.asarray(price_step(on, state).time))
    assert run.steps.end[0] - run.steps.start[0] == pytest.approx(expected, rel=5e-3)
    assert run.steps.prompt_tokens[0] == sum(first)
    alike = float(np.asarray(price_step(on, replace(state, balance=1.0)).time))
    assert expected <= alike * (1 + 1e-12) and (expected < 0.95 * alike or balance > 0.9)


def test_a_step_holds_no_more_of_a_rank_than_its_budget() -> None:
    run = played("llama-3.1-8b", "4xh100-sxm", tw.Plan(dp=4.0), [10000], 2, "vllm")
    assert [*run.steps.prompt_tokens[:5]] == [2048, 2048, 2048, 2048, 1808]
    # Four that come together take a rank each.
    alone = played("llama-3.1-8b", "4xh100-sxm", tw.Plan(), [1500], 30, "vllm")
    four = played("llama-3.1-8b", "4xh100-sxm", tw.Plan(dp=4.0), [1500] * 4, 30, "vllm")
    assert four.requests.last == pytest.approx(np.full(4, alone.requests.last[0]), rel=2e-3)
