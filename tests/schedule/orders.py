"""Random orders: lanes with edges that point back, sections, array turns, and demands."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from tierwise.schedule.types import Buffer, Demand, Issue, Order, OrderEdge, Section

LANES = ("a", "b", "c", "d")


@st.composite
def orders(draw: st.DrawFn, lanes: int = 3, n: int = 3) -> Order:
    """A prologue, a period and an epilogue; ops of the period may run in the prologue already, and in the epilogue."""
    used = LANES[: draw(st.integers(1, lanes))]
    ops: list[str] = []
    lane_of: list[int] = []

    def some(least: int) -> list[int]:
        new = []
        for _ in range(draw(st.integers(least, 5))):
            ops.append(f"op{len(ops)}")
            lane_of.append(draw(st.integers(0, len(used) - 1)))
            new.append(len(ops) - 1)
        return new

    before, period, after = some(0), some(1), some(0)
    ahead = {op: draw(st.integers(0, 2)) for op in period}  # turns run in the prologue already
    rows: list[list[tuple[int, int]]] = [
        [(op, 0) for op in before] + [(op, t) for t in range(2) for op in period if t < ahead[op]],
        [(op, ahead[op]) for op in period],
        # Turns of the epilogue follow the last period: each op runs on from where it was.
        [(op, 0) for op in after] + [(op, ahead[op] + t) for t in range(draw(st.integers(0, 2))) for op in period],
    ]
    count = st.integers(0, 60)
    counts = st.lists(count, min_size=n, max_size=n).map(lambda x: np.asarray(x, dtype=float))
    turns = draw(st.one_of(count.map(float), counts))
    sections = tuple(
        Section({x: tuple(Issue(op, t) for op, t in row if lane_of[op] == i) for i, x in enumerate(used)
                 if draw(st.booleans()) or any(lane_of[op] == i for op, _ in row)}, k, step)
        for row, k, step in zip(rows, (1.0, turns, 1.0), (0, 1, 0), strict=True)
    )  # fmt: skip
    edges: list[OrderEdge] = []
    for _ in range(draw(st.integers(0, 8))):
        of, to = draw(st.integers(0, len(ops) - 1)), draw(st.integers(0, len(ops) - 1))
        if of in period and to in period:
            # Written back at least to the turn before, or to what stands before in the same turn.
            least = ahead[to] - ahead[of] + (0 if of < to else 1)
            # In the prologue and the epilogue the turns are mixed, so it has to point back in turns as well.
            least = max(least, 0 if of < to else 1)
            edges.append(OrderEdge(of, to, least + draw(st.integers(0, 2))))
        elif of < to:
            edges.append(OrderEdge(of, to, draw(st.integers(0, 1)), before=draw(st.booleans())))
    buffers = []
    if draw(st.booleans()) and len(period) > 1:
        w, r = sorted(draw(st.permutations(period))[:2])
        copies = draw(st.integers(1, 3)) + abs(ahead[w] - ahead[r])
        buffers.append(Buffer("t", w, r, copies))
        edges.append(OrderEdge(w, r, max(0, ahead[r] - ahead[w])))
    return Order(tuple(ops), used, sections, tuple(edges), tuple(buffers))


# Whole multiples of a quarter make ties, others make none.
seconds = st.one_of(st.integers(0, 8).map(lambda k: k / 4.0), st.floats(0.01, 2.0))


@st.composite
def demands(draw: st.DrawFn, order: Order, n: int = 3, shared: bool = False) -> list[Demand]:
    def value(of: st.SearchStrategy[float]) -> object:
        return draw(of) if draw(st.booleans()) else np.asarray(draw(st.lists(of, min_size=n, max_size=n)))

    share = st.sampled_from([0.0, 0.25, 0.5, 0.7, 1.0])
    out = []
    for _ in order.ops:
        draws = {k: value(share) for k in ("sm", "hbm")} if shared else {}
        out.append(Demand(value(seconds), draws, {"hbm": value(seconds)}, {"engine": value(seconds)}))  # type: ignore[arg-type]
    return out
