"""Tiled traffic against exhaustive search over tiles, published lower bounds, and its limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tierwise.cost.tiling import matmul_traffic

sizes = st.integers(1, 40)


def exhaustive(m: int, n: int, k: int, capacity: int) -> float:
    """Every tile of every stationary operand, counted pass by pass."""
    best = math.inf
    for rows, columns, kind in ((m, n, "product"), (m, k, "left"), (n, k, "right")):
        for a in range(1, rows + 1):
            for b in range(1, columns + 1):
                if a * b + a + b > capacity:
                    continue
                down, across = -(-rows // a), -(-columns // b)
                if kind == "product":
                    moved = m * k * across + k * n * down + m * n
                elif kind == "left":
                    moved = m * k + k * n * down + m * n * (2 * across - 1)
                else:
                    moved = k * n + m * k * down + m * n * (2 * across - 1)
                best = min(best, moved)
    return best


@settings(max_examples=60, deadline=None)
@given(m=sizes, n=sizes, k=sizes, capacity=st.integers(3, 2000))
def test_close_to_exhaustive_search_and_never_below_it(m: int, n: int, k: int, capacity: int) -> None:
    best, ours = exhaustive(m, n, k, capacity), float(matmul_traffic(m, n, k, capacity))
    assert best <= ours <= 1.3 * best  # four sides an octave are tried, not all


@settings(max_examples=60, deadline=None)
@given(m=st.integers(1, 5000), n=st.integers(1, 5000), k=st.integers(1, 5000), capacity=st.integers(3, 10**6))
def test_never_below_the_lower_bound(m: int, n: int, k: int, capacity: int) -> None:
    """2mnk/sqrt(M) - 2M: Smith et al., A Tight I/O Lower Bound for Matrix Multiplication, arXiv:1702.02017."""
    moved = float(matmul_traffic(m, n, k, capacity))
    assert moved >= 2.0 * m * n * k / math.sqrt(capacity) - 2.0 * capacity
    assert moved >= m * k + k * n + m * n


def test_everything_moves_once_when_everything_fits() -> None:
    assert float(matmul_traffic(100, 200, 300, 1e9)) == 100 * 300 + 300 * 200 + 100 * 200


def test_nothing_fits() -> None:
    assert math.isinf(float(matmul_traffic(10, 10, 10, 2)))


@settings(max_examples=60, deadline=None)
@given(m=st.integers(1, 3000), n=st.integers(1, 3000), k=st.integers(1, 256), capacity=st.integers(3, 10**6))
def test_more_memory_never_means_more_traffic(m: int, n: int, k: int, capacity: int) -> None:
    small, large = (float(matmul_traffic(m, n, k, c)) for c in (capacity, 2 * capacity))
    assert large <= small * (1 + 1e-12)


def test_arrays_are_many_scalars() -> None:
    capacity = np.array([1e3, 1e4, 1e5])
    width = np.array([[32.0], [128.0]])
    many = np.asarray(matmul_traffic(4096.0, 4096.0, width, capacity))
    assert many.shape == (2, 3)
    for i, w in enumerate((32.0, 128.0)):
        for j, c in enumerate(capacity):
            assert many[i, j] == pytest.approx(float(matmul_traffic(4096.0, 4096.0, w, c)))
