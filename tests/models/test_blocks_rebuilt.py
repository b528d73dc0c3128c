"""Keys rebuilt from a low-rank copy, values on the host: what stays, what moves, what waits for the link."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import tierwise as tw
from tierwise.core.numerics import fmt
from tierwise.cost import Target, efficiency, price
from tierwise.result import Phase
from tierwise.techniques import rebuild_keys

MACHINE = "1xa100-sxm-80gb"
BASE = tw.Scenario("llama-3.1-8b", MACHINE, tw.Batch(prompt=65536, output=2, batch=2))
WIDTH = 8 * 128  # of the keys of all KV heads


def decode(hit: float = 0.0, budget: float = 1024.0, rank: float = 160.0) -> Phase:
    return tw.evaluate(BASE.apply(rebuild_keys(rank, 8, budget, hit=hit))).phase("decode")


def host_bytes(phase: Phase) -> float:
    return float(phase.reads("host"))


def test_a_sequence_keeps_its_low_rank_keys_landmarks_and_buffer() -> None:
    kept = tw.evaluate(BASE.apply(rebuild_keys(160, 8, 1024, kept=64))).memory.per_sequence
    tokens = 65537
    expected = 32 * 2.0 * (tokens * 160 + WIDTH * 160 + tokens / 8 * WIDTH + (1024 + 64) * 2 * WIDTH)
    assert float(kept) == pytest.approx(expected, rel=1e-6)


def test_what_crosses_the_link_is_the_values_of_tokens_newly_chosen() -> None:
    assert host_bytes(decode()) == pytest.approx(2 * 1024 * WIDTH * 2.0 * 32)
    assert host_bytes(decode(hit=0.75)) == pytest.approx(host_bytes(decode()) / 4)
    assert host_bytes(decode(hit=1.0)) == 0.0


def test_time_follows_the_link_and_falls_with_hits() -> None:
    times = [float(decode(hit=h).pass_time) for h in (0.0, 0.5, 1.0)]
    assert times == sorted(times, reverse=True)
    link = BASE.resolved().machine.device.link("host")
    assert link is not None
    assert times[0] - times[2] > 0.5 * host_bytes(decode()) / link.bandwidth


def test_prompts_run_as_before() -> None:
    plain, changed = (tw.evaluate(s).phase("prefill") for s in (BASE, BASE.apply(rebuild_keys(160, 8, 1024))))
    # A step's launches are counted as those of one that decodes.
    assert changed.pass_time == pytest.approx(plain.pass_time, rel=1e-3)
    assert changed.cost.device == plain.cost.device


def test_short_contexts_are_read_whole() -> None:
    s = BASE.with_traffic(prompt=128).apply(rebuild_keys(160, 8, 1024))
    fetch = next(p.op for p in tw.evaluate(s).phase("decode").ops if p.op.kind == "fetch")
    assert fetch.bytes_of("host") == pytest.approx(2 * 128 * WIDTH * 2.0)


def test_selecting_passes_over_wide_numbers_more_often() -> None:
    system = BASE.resolved().machine
    on = Target(system, efficiency(system.device))
    op = next(p.op for p in decode().ops if p.op.kind == "select")
    wide = replace(op, reads=tuple(replace(o, format=fmt("fp32")) for o in op.reads))
    assert price(wide, on).time > price(op, on).time


def test_ranks_and_budgets_may_be_arrays() -> None:
    ranks = np.array([64.0, 160.0])
    together = tw.evaluate(BASE.apply(rebuild_keys(ranks, 8, 1024))).tpot
    assert np.asarray(together).tolist() == pytest.approx([float(decode(rank=r).pass_time) for r in ranks])
