"""NumPy: always there, so that every machine has at least its memory and matrix products measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tierwise.machines.profile import Products
from tierwise.measure.engines import EnginePass, MeasureSettings, curves

NAME = "numpy"
PACKAGES = ("numpy",)
FORMATS = ("fp32", "fp64")
CALLS = {"*": 2.0}
PASSES = {"*": 2.0}


def product_probes(bench: MeasureSettings) -> Iterator[tuple[str, Callable[[dict[str, float]], float]]]:
    """Named measurements, in order; each is given the results so far."""
    for form in FORMATS:
        yield f"{form}.call", lambda _, f=form: _product(bench, f, 1, 16, 1)  # type: ignore[misc]
        yield f"{form}.rate", lambda _, f=form: _rate(bench, f)  # type: ignore[misc]
        for size in curves.sizes(bench.quick):
            yield f"{form}.one.{size:.0f}", lambda seen, f=form, s=size: _stream(bench, f, 1, s, seen)  # type: ignore[misc]
            yield f"{form}.many.{size:.0f}", lambda seen, f=form, s=size: _stream(bench, f, 4, s, seen)  # type: ignore[misc]


def products(seen: dict[str, float]) -> dict[str, Products]:
    """Coefficients from the results of the probes."""
    return curves.products(seen, FORMATS)


def runs(purpose: str, bench: MeasureSettings) -> Iterator[EnginePass]:
    """NumPy has no models of its own."""
    return iter(())


def _product(bench: MeasureSettings, form: str, rows: int, side: int, count: int) -> float:
    """Seconds of one of ``count`` products, no two sharing weights."""
    import numpy as np

    dtype: Any = np.float32 if form == "fp32" else np.float64
    weights = [np.full((side, side), 0.01, dtype) for _ in range(count)]
    x = np.ones((rows, side), dtype)

    def work() -> None:
        for w in weights:
            x @ w

    return bench.timer(work).median / count


def _rate(bench: MeasureSettings, form: str) -> float:
    few, many = (_product(bench, form, rows, 768, 1) for rows in (64, 448))
    return 2.0 * 768 * 768 * 384 / max(many - few, 1e-9)


def _stream(bench: MeasureSettings, form: str, rows: int, size: float, seen: dict[str, float]) -> float:
    element = 4.0 if form == "fp32" else 8.0
    count = max(round(size / (element * 640 * 640)), 1)
    side = 640 if count > 1 else max(int((size / element) ** 0.5) // 16 * 16, 32)
    time = _product(bench, form, rows, side, count) - seen[f"{form}.call"]
    if rows > 1:
        time -= 2.0 * rows * side * side / seen[f"{form}.rate"]
    return element * side * side / max(time, element * side * side / 1e12)
