"""Groups that divide sequences of many lengths: what fits, what is conserved, and what is gained."""

from __future__ import annotations

import numpy as np
import pytest

from tests.training.shapes import a100s, gpt
from tierwise.core.errors import TierwiseError
from tierwise.papers.base import joined
from tierwise.steps.price import KERNELS, engine_on
from tierwise.training import Layout, TrainingFramework, framework, train_step
from tierwise.training.groups import Dealt, Grouped, cut, mixed, packed, same
from tierwise.training.passed import passed
from tierwise.training.recipe import Recipe
from tierwise.training.step import exchange
from tierwise.training.work import plan_of

HIDDEN, HEADS, SEQ = 1024.0, 16.0, 8192.0
DEGREES = (1.0, 2.0, 4.0, 8.0, 16.0)


def groups() -> Grouped:
    return Grouped(gpt(24, 2048.0, 16.0), a100s(16), Layout(heads=1.0, zero=3.0), framework("fsdp"))


def dealt(found: Dealt) -> list[float]:
    return sorted(x for turn in found.micro_batches for g in turn for x in g.lengths)


def test_exchanging_heads_sends_eight_parts_of_a_width_however_many_ranks() -> None:
    """Queries, keys, values and outputs, there and back: 8 widths of a rank's part, less what stays at home."""
    model, recipe = gpt(2, HIDDEN, HEADS), Recipe()
    for ranks in (2.0, 4.0, 8.0):
        x = Layout(seq=SEQ, global_batch=1.0, cp=ranks, heads=1.0)
        step = train_step(model, a100s(8), x, TrainingFramework("plain", recipe))
        own = 2.0 * SEQ / ranks * HIDDEN
        assert float(passed(step.work, step.layout, recipe)) == pytest.approx(8.0 * own * (ranks - 1.0) / ranks)


def test_an_exchange_is_waited_for_where_a_ring_hides_behind_attention() -> None:
    model, how = gpt(2, HIDDEN, HEADS), TrainingFramework("plain", Recipe())

    def link(heads: float, seq: float, attended: float = 1.0) -> float:
        x = Layout(seq=seq, global_batch=1.0, cp=8.0, heads=heads, attended=attended)
        return float(train_step(model, a100s(8), x, how).parts["link"])

    assert link(0.0, 2.0**20) == 0.0 < link(1.0, 2.0**20)
    # Twice the tokens are twice the bytes.
    assert link(1.0, 2.0**20) / link(1.0, 2.0**19) == pytest.approx(2.0, rel=0.02)
    # Short documents hide nothing, and a ring carries six widths of every other rank's part, an exchange eight of
    # its own.
    assert link(0.0, 2.0**20, 1e-6) / link(1.0, 2.0**20, 1e-6) == pytest.approx(6.0 * 7.0 / (8.0 * 7.0 / 8.0), rel=0.25)


def test_both_ways_round_do_the_same_arithmetic_and_keep_the_same() -> None:
    model, how = gpt(2, HIDDEN, HEADS), TrainingFramework("plain", Recipe())
    ways = (Layout(seq=SEQ, global_batch=1.0, cp=8.0, heads=h) for h in (0.0, 1.0))
    ring, heads = (train_step(model, a100s(8), x, how) for x in ways)
    assert ring.flops == heads.flops and ring.memory.parts == heads.memory.parts
    assert ring.parts["attention"] == heads.parts["attention"]


def test_packs_hold_every_sequence_once_and_are_never_too_full() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 400).astype(float)
    packs = packed(list(lengths), 100.0)
    assert sorted(x for p in packs for x in p) == sorted(lengths)
    assert max(map(sum, packs)) <= 100.0
    # Best fit decreasing needs at most 11/9 of the least number and 4 (Johnson et al. 1974).
    assert len(packs) <= 11.0 / 9.0 * np.ceil(lengths.sum() / 100.0) + 4.0
    with pytest.raises(TierwiseError, match="a sequence of 101 tokens is longer than the 100"):
        packed([101.0], 100.0)


def test_sorted_sequences_are_cut_into_parts_of_about_as_many_tokens() -> None:
    long = np.sort(np.random.default_rng(1).lognormal(6.0, 1.0, 500))[::-1]
    parts = cut(long, 4)
    assert np.concatenate(parts) == pytest.approx(long)
    assert [p.sum() / long.sum() for p in parts] == pytest.approx([0.25] * 4, abs=0.05)


def test_every_sequence_is_dealt_once_to_a_group_that_holds_it_on_no_more_devices_than_there_are() -> None:
    on = groups()
    most = on.room(16.0)
    lengths = [*np.random.default_rng(2).lognormal(6.5, 1.2, 300).round(), 0.8 * most, 0.3 * most]
    for found in (same(on, [lengths], 16.0)[0], mixed(on, [lengths], DEGREES)[0]):
        assert dealt(found) == sorted(lengths)
        for turn in found.micro_batches:
            assert sum(g.degree for g in turn) <= 16.0
            assert all(sum(g.lengths) <= on.room(g.degree) for g in turn)
        assert found.time == pytest.approx(sum(found.seconds) + found.once)


def test_degrees_that_follow_lengths_gain_where_one_sequence_is_long_and_nothing_where_all_are_alike() -> None:
    on = groups()
    uneven = [*[512.0] * 1200, 2.0 * on.room(1.0)]
    assert on.room(2.0) >= uneven[-1] > on.room(1.0)
    assert mixed(on, [uneven], DEGREES)[0].time < 0.95 * same(on, [uneven], 16.0)[0].time
    # With one sequence beside nothing there is nothing to choose.
    whole = [0.9 * on.room(16.0)]
    assert mixed(on, [whole], DEGREES)[0].time == pytest.approx(same(on, [whole], 16.0)[0].time)
    even = [1024.0] * 256
    best = min(same(on, [even], d)[0].time for d in DEGREES)
    assert mixed(on, [even], DEGREES)[0].time == pytest.approx(best, rel=0.1)


def test_no_time_is_shorter_than_the_work_divided_over_all_devices() -> None:
    """A bound that packing cannot beat: device-seconds of every sequence on its cheapest degree."""
    on = groups()
    lengths = list(np.random.default_rng(3).lognormal(7.0, 1.0, 200).round())
    found = mixed(on, [lengths], DEGREES)[0]
    least = sum(min(d * (on.prices(d)[1] + on.prices(d)[2] * x) * x for d in DEGREES) for x in lengths) / 16.0
    assert least < sum(found.seconds) < 2.0 * least + sum(on.prices(1.0)[0] for _ in found.seconds)


def test_a_sequence_that_no_group_holds_is_refused() -> None:
    on = groups()
    with pytest.raises(TierwiseError, match="is longer than the"):
        mixed(on, [[2.0 * on.room(16.0)]], DEGREES)
    with pytest.raises(TierwiseError, match="is longer than the"):
        same(on, [[2.0 * on.room(4.0)]], 4.0)


@pytest.mark.parametrize(("ranks", "published"), [(16.0, 10.33), (32.0, 5.94), (64.0, 4.87)])
def test_exchanges_over_several_nodes_take_what_they_were_measured_to(ranks: float, published: float) -> None:
    """MiB a millisecond of a rank's own part, on nodes of eight A100 with 400 Gb/s each: PKU-DAIR/Hetu-Galvatron,
    branch flexsp (b466689), galvatron/flexsp_solver/solver.py, alltoall_bandwidth_dict_gbs."""
    machine = joined("64xa100-sxm-40gb", 400e9 / 8.0 / 8.0 / 25e9)
    on = engine_on(gpt(2, 4096.0, 64.0), plan_of(Layout()), machine, KERNELS).target
    size = 2.0 * 4096.0 * 4096.0
    rate = size / 2.0**20 / (1e3 * float(exchange(on, "all_to_all", size, ranks, 1.0)))
    assert rate == pytest.approx(published, rel=0.15)
