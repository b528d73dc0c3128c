"""One request: explained, and played by the simulator."""

from __future__ import annotations

import numpy as np
import pytest

import tierwise as tw
from tierwise.machines import system
from tierwise.serving.deployment import Deployment, Replicas, Settings
from tierwise.serving.traffic.trace import trace
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
