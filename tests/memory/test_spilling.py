"""Operator order and spills: schedules hold move by move, cost what they say, and none is cheaper."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.memory.graphs import Drawn, audited, least, nas_cells, transformer_block, u_net

from tierwise.core.errors import BadField, TierwiseError
from tierwise.core.numerics import fmt
from tierwise.memory.spill_search import Rules, parts
from tierwise.memory.spilling import belady, first_fit, replayed, scheduled
from tierwise.memory.tensors import OperatorGraph, graph, model_ops
from tierwise.models.load import load_model
from tierwise.scenario.types import Plan

pytest.importorskip("numba")
GRAPHS = Path(__file__).resolve().parents[3] / "shared/data/pixels/graphs"


@st.composite
def small(draw: st.DrawFn) -> tuple[OperatorGraph, int]:
    d = Drawn()
    tensors = [d.source(draw(st.integers(1, 4)))]
    for _ in range(draw(st.integers(2, 5))):
        reads = draw(st.lists(st.sampled_from(tensors), min_size=1, max_size=3, unique=True))
        tensors.append(d.op(draw(st.integers(1, 5)), *reads))
    g = d.done()
    # From a third of the largest operator's operands (so that some are streamed) to all tensors at once.
    top = max(g.working)
    return g, draw(st.integers(max(1, top // 3), max(1, top // 3, sum(g.size))))


@given(small())
@settings(max_examples=120, deadline=None)
def test_no_schedule_of_a_small_graph_moves_less(case: tuple[OperatorGraph, int]) -> None:
    g, capacity = case
    fewest = least(g, capacity)
    found = scheduled(g, capacity, 20.0)
    assert found.bound == fewest
    assert audited(g, capacity, found.best) == found.best.traffic >= fewest
    # Where addresses exist for it, the schedule of least traffic is the answer; fragmentation may forbid it.
    if found.best.traffic > fewest:
        assert found.best.traffic <= found.first_fit
    assert found.first_fit >= fewest and found.belady >= fewest >= found.forced


@given(small())
@settings(max_examples=60, deadline=None)
def test_more_room_never_costs_traffic(case: tuple[OperatorGraph, int]) -> None:
    g, capacity = case
    assert scheduled(g, capacity + 1, 20.0).bound <= scheduled(g, capacity, 20.0).bound


@pytest.mark.parametrize(
    ("g", "capacity"),
    [
        (transformer_block(64, 48), 36_864),
        (transformer_block(64, 48), 30_000),
        (u_net(1 << 16, 4), 262_144),
        (u_net(1 << 16, 4), 200_000),
        (nas_cells(1000, 2), 7000),
    ],
)
def test_skips_and_branches_are_scheduled_within_their_bound(g: OperatorGraph, capacity: int) -> None:
    found = scheduled(g, capacity, 20.0)
    assert audited(g, capacity, found.best) == found.best.traffic
    assert found.forced <= found.bound <= found.best.traffic <= found.first_fit
    assert found.best.peak <= capacity
    rules = Rules(g, capacity)
    kept = replayed(rules, belady(rules))
    assert found.best.traffic <= kept.traffic == found.belady
    assert audited(g, capacity, first_fit(rules)) == found.first_fit


def test_what_all_others_stand_before_or_behind_cuts_the_graph() -> None:
    d = Drawn()
    x = d.op(1, d.source(1))
    left, right = d.op(1, x), d.op(1, x)
    d.op(1, d.op(1, left, right))
    cut = parts(Rules(d.done(), 10))
    assert [p.bit_count() for p in cut] == [1, 3, 1]


def test_an_order_that_keeps_less_is_found() -> None:
    # Both long branches start at x and shrink at their ends: going down one after the other keeps one large tensor.
    d = Drawn()
    x = d.op(1, d.source(1))
    wide = [d.op(10, x) for _ in range(2)]
    d.op(1, *[d.op(1, w) for w in wide])
    found = scheduled(d.done(), 12, 10.0)
    assert found.belady > 0 and found.best.traffic == found.bound == 0


def test_an_operator_too_large_for_the_scratchpad_is_streamed() -> None:
    d = Drawn()
    x = d.op(4, d.source(2))
    d.op(1, d.op(4, d.op(20, x)))
    g = d.done()
    found = scheduled(g, 10, 5.0)
    assert [m.streamed for m in found.best.moments] == [False, True, True, False]
    # x out and in, 20 out and in, 4 out and in.
    assert found.best.traffic == found.forced == 2 * (4 + 20 + 4) == audited(g, 10, found.best)


@pytest.mark.skipif(not GRAPHS.is_dir(), reason="recorded graphs are not in a clone")
@pytest.mark.parametrize("name", ["resnet18.op17", "ghostnet_100.op17", "inception_v3.op20"])
def test_real_graphs_hold_and_save(name: str) -> None:
    g = graph(model_ops(load_model(str(GRAPHS / f"{name}.onnx")), Plan()), fmt("int8"))
    capacity = max(g.working)
    found = scheduled(g, capacity, 30.0)
    assert found.gap == 0.0 and audited(g, capacity, found.best) == found.best.traffic < found.first_fit


def test_graphs_that_cannot_be_run() -> None:
    with pytest.raises(BadField, match="capacity"):
        scheduled(u_net(64, 2), 0)
    with pytest.raises(TierwiseError, match="no activations"):
        graph([])
    with pytest.raises(TierwiseError, match="exported graph"):
        model_ops(load_model("llama-3.1-8b"), Plan())
