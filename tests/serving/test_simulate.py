"""What a simulated engine must do, from counts anyone can check by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("numba")

from tierwise.core.errors import TierwiseError
from tierwise.machines import system
from tierwise.models.load import load_model
from tierwise.scenario.types import Plan
from tierwise.serving.deployment import Deployment, Replicas, Settings
from tierwise.serving.outcome import DONE, REJECTED
from tierwise.serving.simulate import simulate
from tierwise.serving.steps import plain_prices
from tierwise.serving.traffic.trace import Trace, trace

from .replay import replay


def served(count: int = 1, context: float = 4096.0, **settings: object) -> Deployment:
    """``count`` replicas of a small engine."""
    model = replace(load_model("llama-2-7b"), max_context=context)
    machine = system("a100-80gb")
    return Deployment(model, (Replicas(machine, Plan(), count, settings=Settings(**settings)),))  # type: ignore[arg-type]


def poisson(n: int, rate: float, seed: int = 0) -> Trace:
    rng = np.random.default_rng(seed)
    return trace(np.cumsum(rng.exponential(1 / rate, n)), rng.integers(1, 1500, n), rng.integers(1, 200, n))


def test_one_request_takes_the_time_of_its_steps() -> None:
    prices = plain_prices(fixed=10e-3, per_token=0.0, per_context=0.0, quadratic=0.0)
    run = simulate(trace([1.0], [100], [5]), served(), [prices])
    assert run.requests.scheduled[0] == 1.0
    assert run.requests.first[0] == pytest.approx(1.01)
    assert run.requests.last[0] == pytest.approx(1.05)
    assert run.totals["steps"] == 5
    assert run.itl_counts.sum() == 4
    low, high = run.itl_edges[:-1][run.itl_counts > 0], run.itl_edges[1:][run.itl_counts > 0]
    assert low[0] <= 10e-3 * 1.0001 and high[-1] >= 10e-3 * 0.9999


def test_a_long_prompt_takes_as_many_steps_as_the_budget_says() -> None:
    prices = plain_prices(fixed=10e-3, per_token=0.0, per_context=0.0, quadratic=0.0)
    run = simulate(trace([0.0], [1000], [1]), served(budget=256), [prices])
    assert run.totals["steps"] == 4
    assert list(run.steps.prompt_tokens) == [256, 256, 256, 232]


def test_a_chunk_costs_its_attention_over_what_came_before() -> None:
    prices = plain_prices(fixed=0.0, per_token=0.0, per_context=0.0, quadratic=1e-9)
    run = simulate(trace([0.0], [1024], [1]), served(budget=512), [prices])
    # Both chunks together are the whole triangle; the axis of new tokens is a grid, so nearly.
    assert run.requests.first[0] == pytest.approx(1e-9 * 1024**2 / 2, rel=1e-3)


def test_decoding_goes_on_while_a_prompt_is_prefilled_in_chunks() -> None:
    prices = plain_prices(fixed=10e-3, per_token=0.0, per_context=0.0, quadratic=0.0)
    run = simulate(trace([0.0, 0.05], [10, 1000], [100, 10]), served(budget=101), [prices])
    assert run.requests.longest[0] == pytest.approx(10e-3)
    # Each step leaves one token of the budget to the request that decodes.
    assert run.requests.first[1] == pytest.approx(0.15)


def test_everything_asked_for_is_made_and_counted() -> None:
    asked = poisson(500, 20)
    run = simulate(asked, served(max_seqs=64), [plain_prices()])
    assert (run.requests.state == DONE).all()
    assert (run.requests.made == asked.output).all()
    assert run.totals["output_tokens"] == asked.output.sum()
    assert run.totals["prompt_tokens"] == asked.prompt.sum()
    assert run.itl_counts.sum() == (asked.output - 1).sum()
    width = np.diff(run.series.time, prepend=0.0)
    assert (run.series.output_tokens * width).sum() == pytest.approx(asked.output.sum())
    assert (run.series.prompt_tokens * width).sum() == pytest.approx(asked.prompt.sum())
    queueing = (run.requests.scheduled - run.requests.arrival).sum()
    assert (run.series.waiting * width).sum() == pytest.approx(queueing)


def test_when_blocks_run_out_the_newest_is_preempted_and_computed_again() -> None:
    prices = plain_prices(room=100 * 16.0, kv_token=1.0)
    asked = trace([0.0, 0.001], [600, 600], [400, 300])
    run = simulate(asked, served(watermark=0.0), [prices])
    assert run.totals["preemptions"] >= 1
    assert run.requests.preempted[0] == 0 and run.requests.preempted[1] >= 1
    assert (run.requests.made == asked.output).all()
    # The token it had just made would have been a step of decoding; now it is prefilled with the rest.
    again = run.totals["recomputed_tokens"] + run.totals["preemptions"]
    assert run.totals["prompt_tokens"] == asked.prompt.sum() + again


def test_what_can_never_be_served_is_rejected() -> None:
    run = simulate(trace([0.0, 0.0], [5000, 10], [10, 10]), served(context=4096.0), [plain_prices()])
    assert list(run.requests.state) == [REJECTED, DONE]
    run = simulate(trace([0.0, 0.0], [500, 10], [10, 10]), served(), [plain_prices(room=400.0, kv_token=1.0)])
    assert list(run.requests.state) == [REJECTED, DONE]


def test_round_robin_deals_in_turn_and_two_replicas_are_twice_one() -> None:
    asked = poisson(200, 1000)
    one = simulate(asked, served(1), [plain_prices()])
    two = simulate(asked, served(2), [plain_prices()])
    assert (two.requests.replica == np.arange(200) % 2).all()
    assert two.totals["end"] < 0.65 * one.totals["end"]
    assert two.totals["replica_seconds"] == pytest.approx(2 * two.totals["end"])


def test_a_closed_loop_keeps_as_many_in_flight() -> None:
    asked = trace(np.zeros(40), np.full(40, 100), np.full(40, 20), closed_loop=4)
    run = simulate(asked, served(), [plain_prices()])
    events = np.concatenate(
        [np.stack([run.requests.arrival, np.ones(40)]), np.stack([run.requests.last, -np.ones(40)])], 1
    )
    order = np.lexsort((events[1], events[0]))
    assert np.cumsum(events[1][order]).max() == 4
    assert (run.requests.state == DONE).all()


def test_a_later_turn_comes_after_the_answer_and_the_pause() -> None:
    asked = trace([0.0, 0.0, 0.0], [100, 200, 300], [10, 10, 10], after=[-1, 0, 0], think=[0.0, 2.0, 3.0])
    run = simulate(asked, served(), [plain_prices()])
    assert run.requests.arrival[1] == pytest.approx(run.requests.last[0] + 2.0)
    assert run.requests.arrival[2] == pytest.approx(run.requests.last[0] + 3.0)


def test_an_empty_trace_is_an_empty_run() -> None:
    run = simulate(trace([], [], []), served(), [plain_prices()])
    assert run.totals["steps"] == 0 and len(run.requests.state) == 0


def test_an_unknown_policy_is_named_with_what_there_is() -> None:
    with pytest.raises(TierwiseError, match="chunked"):
        simulate(poisson(2, 1), served(scheduler="chonked"), [plain_prices()])


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(TierwiseError, match="max_seqs"):
        simulate(poisson(2, 1), served(max_seqs=0), [plain_prices()])


@pytest.mark.parametrize("seed", range(3))
def test_the_same_seed_gives_the_same_run(seed: int) -> None:
    a, b = (simulate(poisson(100, 10, seed), served(2), [plain_prices()], seed=seed) for _ in range(2))
    assert (a.requests.last == b.requests.last).all() and a.totals == b.totals


@pytest.mark.parametrize("ahead", [0, 1])
@pytest.mark.parametrize("rate", [2, 8, 30])
def test_a_plain_replay_in_python_gives_the_same_times(ahead: int, rate: int) -> None:
    host = np.array([1e-3, 1e-5, 2e-5, 1e-7])
    heads = np.tile(np.arange(65.0)[:, None] * 1e-5, (1, 6))
    prices = replace(plain_prices(max_seqs=64), ahead=ahead, host=host, heads=heads, launch=9e-3, mixed_graphs=20,
                     gap_sequence=3e-6, graph_sizes=np.array([1, 2, 4, 8, 16, 32]))  # fmt: skip
    prices = replace(prices, decode_mixed=1.7 * prices.decode)
    asked = poisson(200, rate)
    run = simulate(asked, served(max_seqs=32, budget=512), [prices])
    plain = replay(asked.arrival, asked.prompt, asked.output, prices, 32, 512)  # type: ignore[arg-type]
    assert run.totals["steps"] == plain["steps"]
    for name in ("scheduled", "first", "last"):
        assert getattr(run.requests, name) == pytest.approx(plain[name], rel=1e-12)


def test_empty_places_are_of_the_blocks_in_use_wherever_they_are() -> None:
    """One replica holds a hundred full blocks, the other a single one that is nearly empty."""
    prices = plain_prices(fixed=10e-3, per_token=0.0, per_context=0.0, quadratic=0.0)
    run = simulate(trace([0.0, 0.0], [1600, 1], [8, 8]), served(2), [prices])
    empty = run.series.fragmentation[(run.series.kv > 0) & (run.series.time > 12e-3)]  # the prompts are in by then
    assert len(empty) and (empty < 0.03).all() and (empty > 0.005).all()
