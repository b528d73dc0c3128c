"""Features of engines and clusters, each on a case small enough to know what must come out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("numba")

from tierwise.serving.deployment import Deployment, Speculation
from tierwise.serving.outcome import DONE, WAITING
from tierwise.serving.simulate import simulate
from tierwise.serving.steps import plain_prices
from tierwise.serving.traffic.trace import trace

from .test_conservation import split
from .test_simulate import poisson, served

STEP = 10e-3
PLAIN = plain_prices(fixed=STEP, per_token=0.0, per_context=0.0, quadratic=0.0)


def test_a_cached_prefix_is_not_computed_again() -> None:
    blocks = np.array([1, 2, 3, 1, 2, 4])
    asked = trace([0.0, 1.0], [96, 96], [2, 2], blocks=blocks, block_start=np.array([0, 3, 6]), block_size=32)
    run = simulate(asked, served(), [PLAIN])
    assert list(run.requests.cached) == [0, 64]
    assert run.totals["prompt_tokens"] == 96 + 32
    off = simulate(asked, served(prefix_cache=False), [PLAIN])
    assert off.totals["prompt_tokens"] == 192 and off.totals["cached_tokens"] == 0


def test_the_answer_is_in_the_cache_when_the_next_turn_comes() -> None:
    asked = trace([0.0, 0.0], [64, 160], [65, 2], after=[-1, 0], blocks=np.arange(2 + 5) * [1, 1, 0, 0, 1, 1, 1],
                  block_start=np.array([0, 2, 7]), block_size=32)  # fmt: skip
    asked = replace(asked, blocks=np.array([0, 1, 0, 1, 2, 3, 4]))
    run = simulate(asked, served(), [PLAIN])
    # 64 of the prompt and 64 of the answer were computed; the answer's last token never was.
    assert run.requests.cached[1] == 128


def test_units_pushed_out_come_back_from_the_host() -> None:
    n = 12
    prompts = np.arange(n) % 6
    blocks = (prompts[:, None] * 4 + np.arange(4)).ravel()
    asked = trace(np.arange(n) * 2.0, np.full(n, 129), np.full(n, 2), blocks=blocks, block_start=np.arange(n + 1) * 4,
                  block_size=32)  # fmt: skip
    prices = replace(PLAIN, kv_room=20 * 16 * 1024.0, kv_token=1024.0)
    small = simulate(asked, served(watermark=0.0), [prices])
    tiered = simulate(asked, served(watermark=0.0, host_cache=1e9), [prices])
    assert small.requests.cached[6:].sum() == 0
    assert (tiered.requests.cached[6:] == 128).all()
    assert tiered.totals["swapped_bytes"] >= 6 * 128 * 1024


def test_hand_over_takes_the_time_of_the_transfer() -> None:
    prices = replace(PLAIN, kv_token=1e6, kv_room=1e10, transfer=1e9, transfer_latency=0.5)
    run = simulate(trace([0.0], [100], [3]), split(served(), 1, 1), [prices] * 2)
    # A step of prefill, 0.5 s of latency and 0.1 s of bytes, two steps of decode.
    assert run.requests.first[0] == pytest.approx(STEP)
    assert run.requests.last[0] == pytest.approx(STEP + 0.6 + 2 * STEP)
    assert run.totals["transferred_bytes"] == pytest.approx(1e8)
    assert run.requests.replica[0] == 1


def test_transfers_of_one_replica_queue_on_its_link() -> None:
    prices = replace(PLAIN, kv_token=1e6, kv_room=1e10, transfer=1e9, transfer_latency=0.0)
    run = simulate(trace([0.0, 0.0], [100, 100], [2, 2]), split(served(), 1, 2), [prices] * 2)
    assert np.sort(run.requests.last) == pytest.approx([STEP + 0.1 + STEP, STEP + 0.2 + STEP])


def test_drafts_are_accepted_as_often_as_they_should_be() -> None:
    asked = trace([0.0], [10], [4001])
    run = simulate(asked, served(context=5000.0, speculation=Speculation(3, 0.8, cost=0.0)), [PLAIN])
    # Of three drafts p + p^2 + p^3 are right on average.
    expected = 1.0 + 0.8 + 0.8**2 + 0.8**3
    assert 4000 / (run.totals["steps"] - 1) == pytest.approx(expected, rel=0.05)
    never = simulate(asked, served(context=5000.0, speculation=Speculation(3, 0.0, cost=0.0)), [PLAIN])
    always = simulate(asked, served(context=5000.0, speculation=Speculation(3, 1.0, cost=0.0)), [PLAIN])
    assert (never.totals["steps"], always.totals["steps"]) == (4001, 1001)


def test_adaptive_drafts_stop_where_they_cost_more_than_they_bring() -> None:
    costly = plain_prices(fixed=1e-4, per_token=1e-3, per_context=0.0, quadratic=0.0)
    asked = trace(np.zeros(8), np.full(8, 10), np.full(8, 100))
    drafts = Speculation(4, 0.3, cost=0.1)
    fixed = simulate(asked, served(speculation=drafts), [costly])
    adaptive = simulate(asked, served(speculation=replace(drafts, adaptive=True)), [costly])
    none = simulate(asked, served(), [costly])
    assert adaptive.totals["drafted"] == 0
    assert adaptive.totals["end"] == pytest.approx(none.totals["end"]) and none.totals["end"] < fixed.totals["end"]


def test_samples_share_the_prompt_and_take_places() -> None:
    prices = replace(PLAIN, kv_token=1.0, kv_room=16.0 * 100)
    asked = trace([0.0], [1024], [32], samples=[4])
    run = simulate(asked, served(), [prices])
    # 64 blocks of prompt once, 2 of answer four times; without sharing it would be 264.
    assert run.requests.state[0] == DONE and run.totals["output_tokens"] == 128
    assert run.totals["kv_peak"] == pytest.approx(0.72)
    two = trace([0.0, 0.0], [10, 10], [5, 5], samples=[4, 4])
    run = simulate(two, served(max_seqs=4), [PLAIN])
    assert run.requests.scheduled[1] == pytest.approx(run.requests.last[0])


def test_stages_keep_as_many_steps_in_flight() -> None:
    asked = trace(np.zeros(8), np.full(8, 10), np.full(8, 50))
    one, four = (simulate(asked, served(max_seqs=8, budget=20), [replace(PLAIN, stages=k)]) for k in (1, 4))
    # A step's way through the stages is as long, but others are on it: each takes what two prompts fill.
    assert four.requests.longest.max() <= one.requests.longest.max() * 1.01
    assert (np.diff(np.sort(four.steps.start)) >= STEP / 4 - 1e-12).all()
    overlapping = four.steps.start[1:] < four.steps.end[:-1] - 1e-12
    assert overlapping.any() and not (one.steps.start[1:] < one.steps.end[:-1] - 1e-12).any()


def test_prefill_and_decode_run_beside_each_other_on_their_shares() -> None:
    heavy = plain_prices(fixed=0.0, per_token=1e-4, per_context=0.0, quadratic=0.0)
    swapped = [0, 2, 1, *range(3, heavy.tokens.shape[1])]
    compute = replace(heavy, tokens=heavy.tokens[:, swapped])
    asked = trace([0.0, 0.1], [10, 4000], [4000, 2])
    run = simulate(asked, served(budget=8192, context=8192.0, prefill_share=0.5), [compute])
    alone = simulate(asked, served(budget=8192, context=8192.0), [compute])
    # Bound by arithmetic, half of the units take twice as long; decoding goes on meanwhile.
    assert run.requests.first[1] - run.requests.scheduled[1] == pytest.approx(2 * 0.4, rel=1e-6)
    assert run.requests.longest[0] < 0.01 < alone.requests.longest[0]


def test_adapters_take_turns_in_the_slots() -> None:
    asked = trace(np.zeros(6), np.full(6, 10), np.full(6, 10), adapter=[0, 0, 1, 1, 2, 2])
    free = simulate(asked, served(), [PLAIN])
    one = simulate(asked, served(adapters=1), [PLAIN])
    assert free.totals["end"] == pytest.approx(10 * STEP)
    assert one.totals["end"] > 30 * STEP and one.totals["swapped_bytes"] > 0
    assert (one.requests.state == DONE).all()


def test_swapped_requests_are_not_computed_again() -> None:
    prices = replace(plain_prices(kv_token=1.0), kv_room=100 * 16.0)
    asked = trace([0.0, 0.001], [600, 600], [400, 300])
    run = simulate(asked, served(watermark=0.0, swap=True), [prices])
    assert run.totals["preemptions"] >= 1 and run.totals["recomputed_tokens"] == 0
    assert run.totals["swapped_bytes"] > 0 and run.totals["prompt_tokens"] == asked.prompt.sum()


def test_a_failed_replica_loses_time_but_no_request() -> None:
    asked = poisson(100, 20)
    whole = simulate(asked, served(2), [PLAIN])
    failed = simulate(asked, replace(served(2), failures=((1.0, 0, 2.0),)), [PLAIN])
    assert (failed.requests.state == DONE).all() and failed.totals["recomputed_tokens"] > 0
    assert failed.totals["replica_seconds"] == pytest.approx(2 * failed.totals["end"] - 2.0)
    assert failed.requests.last.mean() > whole.requests.last.mean()


def test_with_no_replica_up_requests_wait_for_one() -> None:
    asked = trace([0.0, 1.5], [10, 10], [5, 5])
    run = simulate(asked, replace(served(), failures=((1.0, 0, 2.0),)), [PLAIN])
    assert run.requests.scheduled[1] == pytest.approx(3.0)


@pytest.mark.parametrize("name", ["queue_length", "utilization"])
def test_an_autoscaler_starts_replicas_under_load_and_lets_them_go(name: str) -> None:
    busy, quiet = np.arange(0, 60, 0.05), np.arange(60, 400, 20.0)
    arrival = np.concatenate([busy, quiet])
    asked = trace(arrival, np.full(len(arrival), 500), np.full(len(arrival), 50))
    d: Deployment = replace(served(4, max_seqs=4), autoscaler=name, startup=5.0)
    run = simulate(asked, d, [replace(PLAIN, kv_room=2500 * 1024.0, kv_token=1024.0)])
    assert (run.requests.state == DONE).all()
    assert run.series.replicas.max() > 1.5 and run.series.replicas[-1] < 1.5
    assert run.totals["replica_seconds"] < 4 * run.totals["end"]


def test_groups_may_differ() -> None:
    d = served(1)
    two = replace(d, groups=(d.groups[0], d.groups[0]), router="least_loaded")
    slow = replace(PLAIN, tokens=4 * PLAIN.tokens)
    run = simulate(poisson(200, 50), two, [PLAIN, slow])
    took = np.bincount(run.requests.replica, minlength=2)
    assert took[0] > 1.5 * took[1] > 0


def test_a_partial_result_is_left_when_the_user_stops() -> None:
    def stop(done: int, total: int, at: float) -> None:
        raise KeyboardInterrupt

    asked = poisson(30_000, 20)
    run = simulate(asked, served(max_seqs=16), [PLAIN], progress=stop)
    assert run.interrupted and 0 < (run.requests.state == DONE).sum() < 30_000
    assert (run.requests.state == WAITING).sum() > 0 and run.totals["kv_lost"] == 0
    assert np.nanmax(run.requests.last) <= run.totals["end"]
    assert run.totals["output_tokens"] == run.requests.made.sum()
