"""Pipelines, against values derived by hand."""

from __future__ import annotations

from itertools import groupby

import numpy as np
import pytest

from tests.schedule import reference
from tierwise.core.errors import TierwiseError
from tierwise.schedule import order
from tierwise.schedule.copies import in_flight
from tierwise.schedule.play import play
from tierwise.schedule.types import Demand, Order

F, B = 2.0, 4.0  # the stand-in backward is twice the work


def demands(made: Order, f: float = F, b: float = B) -> list[Demand]:
    return [Demand(f if x.startswith("forward") else b if x.startswith("backward") else 0.0) for x in made.ops]


@pytest.mark.parametrize("p, m", [(1, 1), (2, 2), (4, 4), (4, 9), (8, 32), (5, 3), (4, 1)])
def test_one_forward_one_backward(p: int, m: int) -> None:
    # The last stage starts after p-1 forwards and then alternates without a gap: m (f+b). Its last backward travels
    # back through p-1 stages. In all (p-1) f + m (f+b) + (p-1) b = (m+p-1)(f+b), of which m (f+b) is work.
    made = order("one_f_one_b", stages=p, micro_batches=float(m))
    done = play(made, demands(made), exposed=False)
    assert done.time == pytest.approx((m + p - 1) * (F + B), rel=1e-12)
    for i in range(p):
        assert done.busy[f"stage {i}"] == pytest.approx(m * (F + B))
    bubble = 1.0 - done.busy["stage 0"] / done.time
    assert bubble == pytest.approx((p - 1) / (m + p - 1), abs=1e-12)
    # Stage i runs min(p-1-i, m) forwards ahead and one more before its first backward frees a copy.
    assert in_flight(made) == {f"activations {i}": min(p - i, m) for i in range(p)}


@pytest.mark.parametrize("p, m", [(2, 2), (4, 9), (3, 1)])
def test_gpipe_takes_as_long_and_holds_every_micro_batch(p: int, m: int) -> None:
    # Forwards: (m+p-1) f until the last stage has all; backwards the same way back: (m+p-1) b.
    made = order("gpipe", stages=p, micro_batches=float(m))
    assert play(made, demands(made), exposed=False).time == pytest.approx((m + p - 1) * (F + B), rel=1e-12)
    assert set(in_flight(made).values()) == {float(m)}


@pytest.mark.parametrize("p, m, v", [(2, 4, 2), (4, 8, 2), (4, 16, 3), (8, 8, 2), (3, 30, 4), (4, 4, 2)])
def test_interleaved_divides_the_bubble_by_the_chunks(p: int, m: int, v: int) -> None:
    # Narayanan et al., section 2.2: a chunk is 1/v of a stage's work, and so is what it waits for at either end:
    # the bubble is (p-1)(f+b)/v in place of (p-1)(f+b).
    made = order("interleaved", stages=p, micro_batches=float(m), chunks=v)
    done = play(made, demands(made, F / v, B / v), exposed=False)
    assert done.time == pytest.approx(m * (F + B) + (p - 1) * (F + B) / v, rel=1e-12)
    # Device i runs 2(p-1-i) + (v-1)p chunks of micro-batches ahead, and one more before its first backward.
    for i, row in enumerate(reference.issues(made).values()):
        held = np.cumsum([1 if made.ops[op].startswith("forward") else -1 for _, op, _ in row])
        assert held.max() == min(2 * (p - 1 - i) + (v - 1) * p + 1, m * v)


def test_one_chunk_interleaved_is_one_forward_one_backward() -> None:
    a = order("interleaved", stages=5, micro_batches=12.0, chunks=1)
    b = order("one_f_one_b", stages=5, micro_batches=12.0)
    assert play(a, demands(a), exposed=False).time == play(b, demands(b), exposed=False).time


def test_each_count_of_micro_batches_in_an_array_is_its_own_pipeline() -> None:
    counts = np.asarray([4.0, 5.0, 37.0, 500.0])
    for name, extra in (("one_f_one_b", {}), ("gpipe", {}), ("interleaved", {"chunks": 2})):
        m = counts * 4 if name == "interleaved" else counts
        made = order(name, stages=4, micro_batches=m, **extra)
        time = play(made, demands(made), exposed=False).time
        copies = in_flight(made)
        for i, x in enumerate(m):
            one = order(name, stages=4, micro_batches=float(x), **extra)
            alone = play(one, demands(one), exposed=False).time
            assert np.broadcast_to(time, (4,))[i] == pytest.approx(alone, rel=1e-12)
            assert {k: float(np.broadcast_to(v, (4,))[i]) for k, v in copies.items()} == in_flight(one)


@pytest.mark.parametrize("name, extra", [("one_f_one_b", {}), ("gpipe", {}), ("interleaved", {"chunks": 2})])
def test_uneven_stages_with_links_agree_with_the_reference(name: str, extra: dict[str, int]) -> None:
    made = order(name, stages=3, micro_batches=12.0, links=True, **extra)
    rng = np.random.default_rng(3)
    asked = [Demand(rng.uniform(0.5, 2.0, 4)) for _ in made.ops]
    done = play(made, asked, exposed=False)
    for i in range(4):
        assert done.time[i] == pytest.approx(reference.play(made, asked, i).time, rel=1e-9)  # type: ignore[index]


def test_links_without_time_change_nothing() -> None:
    for name in ("one_f_one_b", "gpipe", "interleaved"):
        with_, without = (order(name, stages=4, micro_batches=8.0, links=x) for x in (True, False))
        assert play(with_, demands(with_), exposed=False).time == play(without, demands(without), exposed=False).time


def test_what_cannot_be_a_pipeline_is_refused() -> None:
    with pytest.raises(TierwiseError, match="whole groups of 4"):
        order("interleaved", stages=4, micro_batches=6.0)
    with pytest.raises(TierwiseError, match="fill the pipeline"):
        order("one_f_one_b", stages=8, micro_batches=np.asarray([2.0, 16.0]))


def test_every_micro_batch_goes_through_every_stage_once() -> None:
    for name in ("one_f_one_b", "gpipe", "interleaved"):
        made = order(name, stages=4, micro_batches=12.0)
        for row in reference.issues(made).values():
            for op, own in groupby(sorted((op, turn) for _, op, turn in row), key=lambda x: x[0]):
                turns = [turn for _, turn in own]
                assert turns == list(range(turns[0], turns[0] + 12)), made.ops[op]
