"""One request: explained, and played by the simulator."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

import tierwise as tw
from tierwise.machines import system
from tierwise.serving.coefficients import own_steps
from tierwise.serving.deployment import Deployment, Replicas, Settings, Speculation
from tierwise.serving.drafts import verification
from tierwise.serving.pricing import engine_of, step_prices
from tierwise.serving.steady import START, step_curve
from tierwise.serving.step_times import ClosedLoopPoint, step_times
from tierwise.serving.traffic.trace import trace
from tierwise.steps.price import EngineOn
from tierwise.workloads._passes import split

MODELS = {"llama-3.1-8b": 1.0, "gemma-3-12b": 2.0, "mixtral-8x7b": 4.0, "deepseek-v2-lite": 1.0, "jamba-v0.1": 4.0,
          "llama-3.1-70b": 8.0}  # fmt: skip
MACHINES = ("h100-sxm", "a100-sxm-80gb", "mi300x", "b200-sxm")


@pytest.mark.parametrize("name", MODELS)
def test_explain_and_the_simulator_give_a_request_the_same_times(name: str) -> None:
    pytest.importorskip("numba")
    from tierwise.serving.simulate import simulate

    rng = np.random.default_rng(sum(map(ord, name)))
    model, tp = tw.load_model(name), MODELS[name]
    chunk, output = float(rng.choice([2048, 8192])), int(rng.integers(2, 100))
    engine = str(rng.choice(["vllm", "sglang", "trtllm", "typical"]))
    machine = system(f"{tp:.0f}x{rng.choice(MACHINES)}")
    settings = Settings(engine=engine, budget=int(chunk), max_len=32768)
    # Shorter than a pass, and of a few whole passes and a part of one.
    for prompt in (int(rng.integers(16, 2048)), int(chunk * rng.integers(1, 4) + rng.integers(16, 1024))):
        plan = tw.Plan(tp=tp, chunk=chunk)
        said = tw.evaluate(tw.Scenario(model, machine, tw.Batch(float(prompt), float(output), 1.0), plan,
                                       engine=engine))  # fmt: skip
        served = Deployment(model, (Replicas(machine, plan, settings=settings),))
        run = simulate(trace([0.0], [prompt], [output]), served)
        first = float(run.requests.first[0])
        # The engine alone, and what a client waits for beside it. A pass that ends no prompt has its head counted.
        assert first == pytest.approx(float(np.asarray(said.ttft)) + said.request_overhead, rel=0.015)
        tpot = (float(run.requests.last[0]) - first) / (output - 1)
        assert tpot == pytest.approx(float(np.asarray(said.tpot)), rel=5e-3)


# Models, plans and machines of each kind, drawn from.
DRAWN = {
    "dense": (["llama-3.1-8b", "qwen3-32b"], [{"tp": 4}, {"tp": 2}]),
    "moe": (["gpt-oss-20b", "qwen3-30b-a3b"], [{"tp": 2}, {"tp": 4}]),
    "mla": (["deepseek-v2-lite"], [{"tp": 8}, {"tp": 8, "ep": 8}]),
    "hybrid": (["jamba-v0.1", "qwen3-next-80b-a3b"], [{"tp": 8}]),
    "pipelined": (["qwen3-32b", "qwen3-30b-a3b"], [{"tp": 2, "pp": 4}, {"pp": 3}]),
    "experts spread": (["gpt-oss-20b", "mixtral-8x7b"], [{"dp": 8, "ep": 8}, {"tp": 2, "dp": 4, "ep": 8}]),
    "replicas": (["llama-3.1-8b"], [{"dp": 4}, {"tp": 2, "dp": 3}]),
    "overlapped": (["qwen3-32b"], [{"tp": 4, "overlap": True}, {"tp": 8, "overlap": True, "library": True}]),
    "quantized": (["llama-3.1-8b", "mixtral-8x7b"], [{"tp": 2, "weights": "fp8"}, {"tp": 4, "weights": "int4-g128"}]),
    "adapters": (["llama-3.1-8b", "qwen3-32b"], [{"tp": 2, "adapters": 4, "lora_rank": 16}]),
    "prefix cached": (["llama-3.1-8b"], [{"tp": 2}]),
    "disaggregated": (["llama-3.1-8b", "mixtral-8x7b"], [{"tp": 2}]),
}  # fmt: skip
ON = ("8xh100-sxm", "8xa100-sxm-80gb", "8xb200-sxm", "8xmi300x", "8xh200-sxm")


@pytest.mark.parametrize("kind", DRAWN)
def test_a_request_alone_is_one_answer_whoever_is_asked(kind: str) -> None:
    """First token, time a token and joules of the work: explained, played, and by the planner's arrays."""
    pytest.importorskip("numba")
    from tierwise.serving.simulate import simulate

    for i in range(2):
        rng = np.random.default_rng([i, sum(map(ord, kind))])
        models, plans = DRAWN[kind]
        drawn = dict(plans[rng.integers(len(plans))])
        if isinstance(form := drawn.pop("weights", None), str):
            drawn["weights"] = tw.fmt(form)
        model, machine = tw.load_model(models[rng.integers(len(models))]), system(str(rng.choice(ON)))
        engine, chunk = str(rng.choice(["vllm", "sglang", "trtllm", "typical"])), int(rng.choice([512, 1024]))
        prompt, output = int(rng.integers(64, 4 * chunk)), int(rng.integers(2, 5))
        cached = prompt // 32 * 16 if kind == "prefix cached" else 0
        plan = tw.Plan(chunk=float(chunk), **drawn)  # type: ignore[arg-type]
        asked = tw.Batch(float(prompt), float(output), 1.0)
        explained = replace(plan, kv=replace(plan.kv, shared_prefix=float(cached)))
        said = tw.evaluate(tw.Scenario(model, machine, asked, explained, engine=engine))

        settings = Settings(engine=engine, budget=chunk, max_len=8192, adapters=int(float(plan.adapters)))
        group = Replicas(machine, replace(plan, adapters=0.0), settings=settings)
        roles = ("prefill", "decode") if kind == "disaggregated" else ("both",)
        groups = tuple(replace(group, role=role) for role in roles)
        blocks = {"blocks": np.tile(np.arange(cached // 16), 2), "block_start": np.arange(3) * (cached // 16),
                  "block_size": 16} if cached else {}  # fmt: skip
        n = 1 + (cached > 0)
        asks = trace([0.0, 1e3][:n], [prompt] * n, [output] * n, **blocks)
        run = simulate(asks, Deployment(model, groups))
        first, last = (float(x[-1] - run.requests.arrival[-1]) for x in (run.requests.first, run.requests.last))
        assert run.requests.cached[-1] == cached
        # What the tables have between their nodes, and a mean context in place of each.
        assert first - said.request_overhead == pytest.approx(float(np.asarray(said.ttft)), rel=5e-3), (kind, i)
        moving = run.totals["transferred_bytes"] / min(p.transfer for p in map(partial(step_prices, model), groups))
        tpot = (last - first - moving) / (output - 1)
        assert tpot == pytest.approx(float(np.asarray(said.tpot)), rel=5e-3), (kind, i)
        assert planned(engine_of(model, group), prompt, output) == pytest.approx(float(np.asarray(said.tpot)), rel=5e-3)
        if len(groups) == 1 and not cached:
            work = sum(float(np.asarray(v)) for k, v in said.energy_parts.items() if k not in ("idle", "system"))
            power = float(said.devices) * (machine.device.power.idle + machine.overhead_power)
            found = run.totals["energy"] - power * run.totals["replica_seconds"]
            assert found == pytest.approx(work, rel=1e-2), (kind, i)


LOADED = [("llama-3.1-8b", "1xh100-sxm", {}, 64, 1000, 400),
          ("qwen3-30b-a3b", "2xh100-sxm", {"tp": 2.0}, 128, 512, 300),
          ("llama-3.1-70b", "8xh200-sxm", {"tp": 2.0, "pp": 4.0}, 64, 2000, 300),
          ("deepseek-v2-lite", "8xa100-sxm-80gb", {"dp": 8.0, "ep": 8.0}, 64, 700, 300),
          ("qwen3-32b", "4xa100-sxm-80gb", {"tp": 4.0, "schedule": "two_batches"}, 64, 1000, 300)]  # fmt: skip


@pytest.mark.parametrize(("name", "machine", "plan", "batch", "prompt", "output"), LOADED)
def test_a_full_batch_is_one_answer_whoever_is_asked(
    name: str, machine: str, plan: dict[str, float], batch: int, prompt: int, output: int
) -> None:
    """All requests at once. The last prompt waits for the others, beside whose tokens it is read; then all decode."""
    pytest.importorskip("numba")
    from tierwise.serving.simulate import simulate

    model, on = tw.load_model(name), tw.Plan(**plan)  # type: ignore[arg-type]
    for engine in ("vllm", "sglang"):
        said = tw.evaluate(tw.Scenario(model, machine, tw.Batch(float(prompt), float(output), float(batch)), on,
                                       engine=engine))  # fmt: skip
        settings = Settings(engine=engine, max_len=8192, max_seqs=512, prefix_cache=False)
        asks = trace([0.0] * batch, [prompt] * batch, [output] * batch)
        run = simulate(asks, Deployment(model, (Replicas(system(machine), on, settings=settings),))).requests
        last = int(np.argmax(run.first))
        tpot = float(run.last[last] - run.first[last]) / (output - 1)
        assert tpot == pytest.approx(float(np.asarray(said.tpot)), rel=0.01)
        rate = batch * output / float(np.max(run.last))
        assert rate == pytest.approx(float(np.asarray(said.throughput)), rel=0.03)


DRAFTED = [("llama-3.1-8b", "1xh100-sxm", {}, 1, 4, 0.0), ("llama-3.1-70b", "4xh100-sxm", {"tp": 4.0}, 1, 3, 0.1),
           ("gpt-oss-20b", "1xh200-sxm", {}, 16, 2, 0.0), ("deepseek-v2-lite", "1xh100-sxm", {}, 8, 1, 0.05),
           ("llama-3.1-70b", "8xh200-sxm", {"tp": 4.0, "pp": 2.0}, 1, 3, 0.0)]  # fmt: skip


@pytest.mark.parametrize(("name", "machine", "plan", "batch", "drafts", "cost"), DRAFTED)
@pytest.mark.parametrize("right", [1.0, 0.0])
def test_a_cycle_of_drafts_is_one_answer_whoever_is_asked(
    name: str, machine: str, plan: dict[str, float], batch: int, drafts: int, cost: float, right: float
) -> None:
    pytest.importorskip("numba")
    from tierwise.serving.simulate import simulate

    model, on, output = tw.load_model(name), tw.Plan(**plan), 30 * (drafts + 1) + 1  # type: ignore[arg-type]
    asked = tw.Scenario(model, machine, tw.Batch(500.0, float(output), float(batch)), on, engine="vllm")
    cycle = float(np.asarray(verification(asked, float(drafts)).cost.time))
    cycle += drafts * cost * float(np.asarray(tw.evaluate(asked).tpot))
    settings = Settings(engine="vllm", max_len=8192, prefix_cache=False, speculation=Speculation(drafts, right, cost))
    run = simulate(trace([0.0] * batch, [500] * batch, [output] * batch),
                   Deployment(model, (Replicas(system(machine), on, settings=settings),))).requests  # fmt: skip
    cycles = (output - 1) / (drafts + 1 if right else 1)
    assert float(run.last[0] - run.first[0]) / cycles == pytest.approx(cycle, rel=5e-3)


def planned(on: EngineOn, prompt: int, output: int) -> float:
    """Seconds of a decode step of one sequence by the planner's arrays."""
    one = np.ones(1)
    point = ClosedLoopPoint(one * on.plan.tp, one * on.plan.dp, one * on.plan.ep, one * on.plan.dp, one * prompt,
                            one * output, 0.0 * one)  # fmt: skip
    coef = {name: np.asarray([start]) for name, start in START.items()}
    return float(step_curve(point, step_times(on, point), own_steps(coef, on.fixes)).seconds(one)[0])


PIPED = [("llama-3.1-70b", "8xh200-sxm", {"tp": 2.0, "pp": 4.0}), ("qwen3-32b", "4xl40s", {"pp": 4.0}),
         ("llama-3.1-70b", "6xh100-sxm", {"tp": 2.0, "pp": 3.0}),
         ("qwen3-30b-a3b", "2xh100-sxm", {"pp": 2.0})]  # fmt: skip


@pytest.mark.parametrize(("name", "machine", "plan"), PIPED)
@pytest.mark.parametrize("engine", ["vllm", "sglang", "trtllm", "trtllm@1.1"])
def test_chunks_of_a_prompt_follow_each_other_through_stages_where_the_engine_lets_them(
    name: str, machine: str, plan: dict[str, float], engine: str
) -> None:
    pytest.importorskip("numba")
    from tierwise.serving.simulate import simulate

    model, on = tw.load_model(name), tw.Plan(chunk=2048.0, **plan)  # type: ignore[arg-type]
    settings = Settings(engine=engine, budget=2048, max_len=32768)
    served = Deployment(model, (Replicas(system(machine), on, settings=settings),))
    taken = {}
    for prompt in (2048, 8 * 2048, 8 * 2048 + 700):
        said = tw.evaluate(tw.Scenario(model, machine, tw.Batch(float(prompt), 20.0, 1.0), on, engine=engine))
        run = simulate(trace([0.0], [prompt], [20]), served)
        taken[prompt] = float(run.requests.first[0]) - said.request_overhead
        assert taken[prompt] == pytest.approx(float(np.asarray(said.ttft)), rel=5e-3)
        tpot = (float(run.requests.last[0]) - float(run.requests.first[0])) / 19
        assert tpot == pytest.approx(float(np.asarray(said.tpot)), rel=5e-3)
    # Eight chunks pass p stages in 8 + p - 1 turns of one, at the least, or in 8 p where each waits for the last.
    turns, pp = 8.0 * taken[2048] / taken[8 * 2048], plan["pp"]
    assert turns <= 1.0 if engine.endswith("1.1") else 1.0 < turns <= 8.0 * pp / (7.0 + pp)


def test_passes_are_full_but_for_the_last_and_lose_no_token_nor_what_it_attends_to() -> None:
    rng = np.random.default_rng(5)
    rank, prompt = rng.integers(1, 300, 500) * 1.0, rng.integers(1, 50000, 500) * 1.0
    chunk = rng.choice([512.0, 2048.0, 8192.0, np.inf], 500)
    full, last = split(rank, prompt, chunk)
    tokens = [c.times * c.seqs * c.new for c in (full, last)]
    assert sum(tokens) == pytest.approx(rank * prompt, rel=1e-9)
    assert np.all(full.seqs * full.new <= chunk * (1 + 1e-12)) and np.all(last.times <= 1.0)
    more = last.times > 0
    assert np.all((full.seqs * full.new)[more] == pytest.approx(chunk[more])) and more.any()
    pairs = sum(t * (c.past + c.new / 2.0) for t, c in zip(tokens, (full, last), strict=True))
    assert pairs == pytest.approx(rank * prompt**2 / 2.0, rel=1e-6)


def test_who_asks_for_decode_alone_does_not_have_the_prompt_priced() -> None:
    said = tw.evaluate(tw.Scenario("llama-3.1-8b", "h100-sxm", tw.Batch(np.array([16e3, 64e3]), 20.0, 1.0),
                                   tw.Plan(chunk=2048.0), engine="vllm"))  # fmt: skip
    assert np.all(said.tpot > 0.0)
    prompt = said.phase("prefill").cost
    assert "costs" not in vars(prompt) and np.all(prompt.time > 0.0) and "costs" in vars(prompt)
