"""The front is what brute force finds: nothing on it is beaten, nothing off it is unbeaten."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tierwise.search.pareto import front

numbers = st.one_of(st.integers(0, 6).map(float), st.floats(0, 10), st.sampled_from([float("nan"), float("inf")]))


@given(st.lists(st.tuples(numbers, numbers), max_size=30))
def test_front_is_brute_force(pairs: list[tuple[float, float]]) -> None:
    cost, gain = np.asarray(pairs, dtype=float).reshape(-1, 2).T
    found = front(cost, gain)
    usable = [i for i, (c, g) in enumerate(pairs) if np.isfinite(c) and np.isfinite(g)]

    def beaten(i: int) -> bool:
        return any(
            cost[j] <= cost[i] and gain[j] >= gain[i] and (cost[j] < cost[i] or gain[j] > gain[i]) for j in usable
        )

    unbeaten = {(cost[i], gain[i]) for i in usable if not beaten(i)}
    assert {(cost[i], gain[i]) for i in found} == unbeaten
    assert len(found) == len(unbeaten)
    assert np.all(np.diff(cost[found]) > 0) and np.all(np.diff(gain[found]) > 0)
