"""Streams: overlap hides communication behind compute, never more than there is."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierwise.cost.types import Cost
from tierwise.program.types import Op
from tierwise.schedule.streams import chain, events, overlapped


def layer(compute: float, link: float) -> tuple[list[Op], list[Cost]]:
    kinds = [("matmul", compute), ("collective", link)] * 2
    ops = [Op(k, f"{k}{i}", "x", {}, 0.0, (), (), "bf16") for i, (k, _) in enumerate(kinds)]
    return ops, [Cost({"t": t}, {}, 0.0) for _, t in kinds]


@given(st.floats(0.1, 10), st.floats(0.0, 10), st.integers(3, 100))
def test_overlap_lies_between_the_busier_stream_and_the_sum(compute: float, link: float, n: int) -> None:
    ops, costs = layer(compute, link)
    t = overlapped(ops, costs, float(n), 1)
    assert t <= n * chain(costs) * (1 + 1e-9)
    assert t >= n * 2 * max(compute, link) * (1 - 1e-9)


@given(st.floats(0.1, 10), st.floats(0.0, 10), st.integers(3, 100))
def test_without_running_ahead_nothing_overlaps(compute: float, link: float, n: int) -> None:
    ops, costs = layer(compute, link)
    assert overlapped(ops, costs, float(n), 0) == pytest.approx(n * chain(costs))


def test_hidden_communication_leaves_one_tail() -> None:
    ops, costs = layer(2.0, 1.0)
    assert overlapped(ops, costs, 10.0, 1) == pytest.approx(10 * 4.0 + 1.0)


def test_a_timeline_never_overlaps_itself_on_one_stream() -> None:
    ops, costs = layer(2.0, 3.0)
    rows = events([("a", ops, costs), ("b", ops, costs)], 1)
    for stream in ("compute", "link"):
        mine = [(float(r["start"]), float(r["duration"])) for r in rows if r["stream"] == stream]  # type: ignore[arg-type]
        assert all(s + d <= after + 1e-12 for (s, d), (after, _) in pairwise(mine))
