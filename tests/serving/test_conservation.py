"""What must hold of every run, whatever the traffic, the policies and the failures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba")

from hypothesis import given, settings
from hypothesis import strategies as st

from tierwise.serving.deployment import Deployment, Speculation
from tierwise.serving.outcome import DONE, REJECTED, SimulatedRun
from tierwise.serving.policies import names
from tierwise.serving.simulate import simulate
from tierwise.serving.steps import StepPrices, plain_prices
from tierwise.serving.traffic import synthetic
from tierwise.serving.traffic.trace import Trace, trace

from .test_simulate import served

PRICES = plain_prices(max_seqs=64, room=3000 * 1024.0, kv_token=1024.0)
OWN = [n for n in names("schedulers") if n != "static"]


def split(d: Deployment, prefill: int, decode: int) -> Deployment:
    """The same engines, some of which only prefill and the others only decode."""
    g = d.groups[0]
    return replace(d, groups=(replace(g, role="prefill", count=prefill), replace(g, role="decode", count=decode)))


# Small traffic of any shape: bursts, long prompts, follow-ups, samples, a closed loop.
TRAFFIC = st.fixed_dictionaries({
    "n": st.integers(1, 40), "seed": st.integers(0, 10**6), "follow": st.sampled_from([0.0, 0.3]),
    "gap": st.sampled_from([0.0, 0.01, 0.5]), "prompt": st.sampled_from([2, 100, 1500]),
    "output": st.sampled_from([2, 50, 300]), "samples": st.sampled_from([2, 4]), "closed": st.sampled_from([0, 0, 3]),
})  # fmt: skip
# Any policies and features together.
SETUP = st.fixed_dictionaries({
    "replicas": st.integers(1, 3), "scheduler": st.sampled_from(OWN), "kv": st.sampled_from(names("kv")),
    "router": st.sampled_from(names("routers")), "max_seqs": st.sampled_from([4, 64]),
    "budget": st.sampled_from([64, 512, 4096]), "watermark": st.sampled_from([0.0, 0.05]), "swap": st.booleans(),
    "adapters": st.sampled_from([0, 2]), "share": st.sampled_from([0.0, 0.0, 0.4]),
    "draft": st.sampled_from([(0, False), (3, False), (3, True)]),
    "split": st.sampled_from([None, None, (1, 1), (2, 2)]),
    "fails": st.booleans(), "stages": st.sampled_from([1, 1, 2]), "ahead": st.sampled_from([0, 1]),
    "ranks": st.sampled_from([1.0, 1.0, 3.0]),
})  # fmt: skip


def made(w: dict[str, Any]) -> Trace:
    n, rng = w["n"], np.random.default_rng(w["seed"])
    after = np.where(rng.random(n) < w["follow"], rng.integers(-1, np.arange(n)), -1)
    return trace(
        np.cumsum(rng.exponential(w["gap"], n)), rng.integers(1, w["prompt"], n), rng.integers(1, w["output"], n),
        after=after, think=rng.exponential(0.1, n), tenant=rng.integers(0, 3, n), priority=rng.integers(0, 3, n),
        samples=rng.integers(1, w["samples"], n), adapter=rng.integers(-1, 4, n), tenants=("a", "b", "c"),
        closed_loop=w["closed"],
    )  # fmt: skip


def built(w: dict[str, Any]) -> tuple[Deployment, list[StepPrices]]:
    d = served(
        w["replicas"], scheduler=w["scheduler"], kv=w["kv"], max_seqs=w["max_seqs"], budget=w["budget"], max_len=2048,
        watermark=w["watermark"], swap=w["swap"], adapters=w["adapters"], prefill_share=w["share"],
        speculation=Speculation(w["draft"][0], 0.7, adaptive=w["draft"][1]),
    )  # fmt: skip
    ranked = replace(d.groups[0], plan=replace(d.groups[0].plan, dp=w["ranks"]))
    d = replace(d, router=w["router"], groups=(ranked,))
    if w["split"]:
        d = split(d, *w["split"])
    if w["fails"]:
        d = replace(d, failures=((0.3, 0, 0.5), (0.6, sum(g.count for g in d.groups) - 1, 0.2)))
    return d, [replace(PRICES, stages=w["stages"], ahead=w["ahead"])] * len(d.groups)


def conserved(run: SimulatedRun) -> None:
    """Tokens, blocks and times add up."""
    q, t = run.requests, run.trace
    done = q.state == DONE
    assert (q.made[done] == t.output[done]).all() and (q.made[~done] <= t.output[~done]).all()
    assert run.totals["output_tokens"] == (q.made * t.samples).sum()
    assert run.itl_counts.sum() == (np.maximum(q.made - 1, 0) * t.samples).sum()
    assert run.totals["kv_lost"] == 0 and run.totals["kv_peak"] <= 1.0
    first, last, came = q.first[done], q.last[done], q.arrival[done]
    assert (q.scheduled[done] >= came).all() and (first > q.scheduled[done]).all() and (last >= first).all()
    assert (q.longest[done] <= last - first + 1e-12).all()
    assert np.isfinite(q.last[done]).all() and run.totals["end"] >= last.max(initial=0.0)
    assert (np.diff(run.series.time) > 0).all() and (run.steps.end > run.steps.start).all()
    for r in np.unique(run.steps.replica):
        assert (np.diff(run.steps.end[run.steps.replica == r]) >= 0).all()
    width = np.diff(run.series.time, prepend=0.0)
    assert (run.series.output_tokens * width).sum() == pytest.approx(run.totals["output_tokens"])
    assert (run.series.replicas * width).sum() == pytest.approx(run.totals["replica_seconds"])
    assert (run.series.kv <= 1.0 + 1e-9).all() and (run.series.kv >= 0.0).all()


@settings(max_examples=150, deadline=None)
@given(TRAFFIC, SETUP, st.integers(0, 5))
def test_every_token_is_made_once_and_no_block_is_lost(
    asked_for: dict[str, Any], setup: dict[str, Any], seed: int
) -> None:
    asked, where = made(asked_for), built(setup)
    run = simulate(asked, *where, seed=seed)
    conserved(run)
    assert np.isin(run.requests.state, (DONE, REJECTED)).all()
    again = simulate(asked, *where, seed=seed, exact=True)
    for name in run.requests.__dataclass_fields__:
        assert np.array_equal(getattr(run.requests, name), getattr(again.requests, name), equal_nan=True), name


def test_what_no_decoding_engine_has_room_for_leaves_the_one_that_prefilled_it() -> None:
    """Drafts take a reserved block of a power of two over the next one, which fits where it is prefilled and nowhere
    else: the next request, which waits for those blocks, comes in."""
    d = split(served(1, kv="reserve_exact", max_len=2048, speculation=Speculation(3, 0.7, adaptive=False)), 1, 1)
    asked = trace(np.zeros(2), np.array([1000, 900]), np.array([24, 6]), samples=np.array([2, 2]))
    run = simulate(asked, d, [PRICES] * 2)
    conserved(run)
    assert run.requests.state.tolist() == [REJECTED, DONE]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 4e6]), st.booleans(), st.sampled_from(["paged", "virtual"]))
def test_shared_prefixes_are_conserved_too(seed: int, host: float, parted: bool, kv: str) -> None:
    asked = synthetic(60, rate=20.0, prompt="uniform:low=1,high=200", output="uniform:low=1,high=100", turns=3,
                      think=0.1, system=100, block_size=32, seed=seed)  # fmt: skip
    d = served(2, max_seqs=16, host_cache=host, disk_cache=host, kv=kv, max_len=2048)
    d = replace(d, router="prefix_aware", pooled=bool(seed % 2), failures=((1.0, 0, 0.5),))
    if parted:
        d = split(d, 1, 1)
    run = simulate(asked, d, [PRICES] * len(d.groups))
    conserved(run)
    assert (run.requests.cached <= asked.prompt).all()
    if kv == "virtual":
        assert run.totals["cached_tokens"] == 0


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 20))
def test_a_static_batch_ends_together_and_loses_nothing(seed: int, places: int) -> None:
    rng = np.random.default_rng(seed)
    asked = trace(np.cumsum(rng.exponential(0.01, 40)), rng.integers(1, 500, 40), rng.integers(1, 100, 40))
    run = simulate(asked, served(scheduler="static", kv="reserve_max", max_seqs=places, max_len=600), [PRICES])
    conserved(run)
    assert (run.requests.state == DONE).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_among_requests_that_come_together_order_does_not_change_totals(seed: int) -> None:
    rng = np.random.default_rng(seed)
    prompt, output, order = rng.integers(1, 500, 30), rng.integers(1, 100, 30), rng.permutation(30)
    a = simulate(trace(np.zeros(30), prompt, output), served(), [PRICES])
    b = simulate(trace(np.zeros(30), prompt[order], output[order]), served(), [PRICES])
    for name in ("output_tokens",):
        assert a.totals[name] == b.totals[name]
    assert sorted(a.requests.made) == sorted(b.requests.made)
    same = simulate(trace(np.zeros(30), np.full(30, 100), output), served(max_seqs=64), [plain_prices()])
    mixed = simulate(trace(np.zeros(30), np.full(30, 100), output[order]), served(max_seqs=64), [plain_prices()])
    assert same.totals["end"] == pytest.approx(mixed.totals["end"])
    assert np.sort(same.requests.last) == pytest.approx(np.sort(mixed.requests.last))


@pytest.mark.parametrize(("kv", "least"), [("reserve_exact", 1.0), ("paged", 1.5)])
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), part=st.floats(0.0, 1.0))
def test_more_memory_or_speed_never_lowers_closed_loop_throughput(
    kv: str, least: float, seed: int, part: float
) -> None:
    """Whatever is added, where a request's whole KV is reserved. An engine that admits requests before it knows how
    long they get preempts and computes again, and a few percent more memory can bring more of that: there it holds
    from half as much again (of 1,500 runs with up to four times the memory 11 took longer, by 4 % at most, and all of
    those had less than 1.11 times). It is a property of scheduling, for prices of rows that do not depend on what else
    is in the step: where chunks slow decoding rows (FlashAttention 2, ``decode_mixed``), more in flight can lose."""
    rng, more = np.random.default_rng(seed), least + part * (4.0 - least)
    asked = trace(np.zeros(60), np.full(60, rng.integers(1, 600)), np.full(60, rng.integers(2, 200)), closed_loop=16)
    faster = replace(PRICES, tokens=PRICES.tokens / more, decode=PRICES.decode / more, prefill=PRICES.prefill / more)
    base = simulate(asked, served(kv=kv), [PRICES])
    memory = simulate(asked, served(kv=kv), [replace(PRICES, kv_room=PRICES.kv_room * more)])
    speed = simulate(asked, served(kv=kv), [faster])
    assert memory.totals["end"] <= base.totals["end"] * (1.0 + 1e-9)
    assert speed.totals["end"] <= base.totals["end"] * (1.0 + 1e-9)


def test_under_fair_scheduling_a_flood_does_not_starve_the_others() -> None:
    rng = np.random.default_rng(0)
    many, few = 400, 20
    arrival = np.concatenate([rng.uniform(0, 1, many), np.linspace(0.5, 20, few)])
    tenant = np.concatenate([np.zeros(many), np.ones(few)]).astype(int)
    order = np.argsort(arrival)
    asked = trace(arrival[order], np.full(many + few, 200), np.full(many + few, 50), tenant=tenant[order],
                  tenants=("flood", "few"))  # fmt: skip
    waits = {}
    for name in ("chunked", "fair"):
        run = simulate(asked, served(scheduler=name, max_seqs=8), [PRICES])
        assert (run.requests.state == DONE).all()
        waits[name] = (run.requests.scheduled - run.requests.arrival)[asked.tenant == 1].max()
    assert waits["fair"] < 1.0 < 0.2 * waits["chunked"]


def test_the_urgent_pass_the_others() -> None:
    asked = trace(np.zeros(100), np.full(100, 200), np.full(100, 50), priority=np.arange(100) % 2)
    run = simulate(asked, served(scheduler="priority", max_seqs=8), [PRICES])
    assert run.requests.first[asked.priority == 1].mean() < 0.6 * run.requests.first[asked.priority == 0].mean()


def test_the_short_do_not_wait_for_the_long() -> None:
    asked = trace(np.zeros(100), np.full(100, 200), 10 + 90 * (np.arange(100) % 2))
    means = [
        simulate(asked, served(scheduler=s, max_seqs=8), [PRICES]).requests.last.mean()
        for s in ("chunked", "shortest_first")
    ]
    assert means[1] < means[0]
