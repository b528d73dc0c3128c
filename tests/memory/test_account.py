"""Memory: every byte has a role, sharding divides it, the largest batch is the largest."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import decoder

import tierwise as tw
from tierwise.evaluation import largest_batch, longest_context
from tierwise.machines import system
from tierwise.models.types import Model


def run(model: Model, machine: object = "h100-sxm", plan: tw.Plan | None = None, **traffic: object) -> tw.Result:
    return tw.evaluate(tw.Scenario(model, machine, tw.Batch(**traffic), plan or tw.Plan()))  # type: ignore[arg-type]


def test_weights_are_parameters_times_bytes(dense: Model) -> None:
    r = run(dense, batch=1)
    assert r.memory.weight_bytes == pytest.approx(2 * dense.parameters)
    four = run(dense, plan=tw.Plan(weights=tw.fmt("int4-g128")), batch=1)
    linear = 4 * (1024 * (1024 + 512) + 1024 * 1024 + 3 * 1024 * 2816)
    assert r.memory.weight_bytes - four.memory.weight_bytes == pytest.approx(linear * (2 - (4 + 20 / 128) / 8))


def test_the_parts_add_up(dense: Model) -> None:
    m = run(dense, prompt=1024, output=64, batch=16).memory
    assert sum(m.parts.values()) == pytest.approx(m.peak)


def test_cache_grows_with_tokens_and_sequences(dense: Model) -> None:
    per_token = 4 * 2 * 4 * 64 * 2
    assert run(dense, prompt=1000, output=25, batch=7).memory.kv == pytest.approx(7 * (1000 + 24) * per_token)


@pytest.mark.parametrize("degrees", [{"tp": 4.0}, {"pp": 4.0}, {"tp": 2.0, "pp": 2.0}])
def test_sharded_layers_divide_and_caches_follow(dense: Model, degrees: dict[str, float]) -> None:
    one = run(dense, "4xh100-sxm", tw.Plan(), prompt=512, output=2, batch=8).memory
    four = run(dense, "4xh100-sxm", tw.Plan(**degrees), prompt=512, output=2, batch=8).memory
    assert four.weights["mlp"] == pytest.approx(one.weights["mlp"] / 4)
    assert four.kv == pytest.approx(one.kv / 4)


def test_more_ranks_than_kv_heads_replicate_them(dense: Model) -> None:
    four = run(dense, "8xh100-sxm", tw.Plan(tp=4.0), batch=8).memory
    eight = run(dense, "8xh100-sxm", tw.Plan(tp=8.0), batch=8).memory
    assert eight.kv == pytest.approx(four.kv)


@settings(max_examples=15, deadline=None)
@given(st.integers(16, 8192), st.integers(1, 512), st.sampled_from([1.0, 2.0, 4.0]))
def test_the_largest_batch_fits_and_one_more_does_not(prompt: int, output: int, tp: float) -> None:
    scenario = tw.Scenario(decoder(), "4xt4", tw.Batch(prompt, output, "max"), tw.Plan(tp=tp))
    best = tw.evaluate(scenario)
    assert best.fits
    assert not tw.evaluate(scenario.with_traffic(batch=float(best.batch) + 1)).fits


def test_the_longest_context_fits_and_one_more_token_does_not(dense: Model) -> None:
    scenario = tw.Scenario(dense, "t4", tw.Batch(64, 16, 4.0), tw.Plan())
    longest = longest_context(scenario.resolved())  # prompt and output
    assert tw.evaluate(scenario.with_traffic(prompt=longest - 16)).fits
    assert not tw.evaluate(scenario.with_traffic(prompt=longest - 15)).fits
    # However it is divided: only what a pass of prefill holds differs, which here is less than a token's cache.
    other = longest_context(scenario.with_traffic(output=48).resolved())
    assert other == longest


def test_what_never_fits_is_an_answer(dense: Model) -> None:
    r = tw.evaluate(tw.Scenario(dense, "stm32h743", tw.Batch(batch="max")))
    assert not r.fits and r.batch == 0 and r.throughput == 0
    assert r.memory.peak > r.memory.capacity


def test_an_array_of_plans_has_an_array_of_largest_batches(dense: Model) -> None:
    tp = np.array([1.0, 2.0, 4.0])

    def largest(degree: object) -> object:
        plan = tw.Plan(tp=degree)  # type: ignore[arg-type]
        return largest_batch(tw.Scenario(dense, "4xt4", tw.Batch(batch="max"), plan).resolved())

    assert largest(tp) == pytest.approx([largest(float(t)) for t in tp])


def test_unfused_attention_holds_its_scores(dense: Model) -> None:
    fused = run(dense, plan=tw.Plan(chunk=1e9), prompt=8192, output=1).memory.activations
    unfused = run(dense, plan=tw.Plan(chunk=1e9, flash=False), prompt=8192, output=1).memory.activations
    assert unfused - fused > 16 * 8192**2 * 2


def test_an_eager_framework_holds_a_score_in_16_bits_and_32_and_its_softmax_in_32(dense: Model) -> None:
    def held(**plan: object) -> float:
        how = tw.Plan(chunk=1e9, **plan)  # type: ignore[arg-type]
        s = tw.Scenario(dense, "h100-sxm", tw.Batch(prompt=8192, output=1, batch=1), how, engine="kernels")
        return float(tw.evaluate(s).memory.activations)

    unfused = held(flash=False)
    assert held(flash=False, framework="transformers") - unfused == pytest.approx(16 * 8192**2 * (2 + 4 + 4 - 4))
    assert held(framework="transformers") == held() < unfused


def test_capacity_is_the_drivers_figure() -> None:
    assert 79e9 < system("h100-sxm").device.memory.capacity < 86e9
