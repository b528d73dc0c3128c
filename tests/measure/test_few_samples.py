"""Ten measurements: factors that were put in come out, and what was right stays right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("scipy")

from benchmarks.accuracy.few_samples import adapted, scaled

from tierwise.cost import efficiency
from tierwise.machines import system
from tierwise.measure.ops import kind_of, predict

FOUND = efficiency(system("h100-sxm").device)


def table(factors: tuple[float, float, float]) -> dict[str, Any]:
    """Products of every size on a device whose coefficients are the H100's times ``factors``."""
    random, count = np.random.default_rng(0), 60
    sizes = {x: 2.0 ** random.integers(low, 14, count) for x, low in (("m", 0), ("n", 8), ("k", 8))}
    rows = {
        **sizes, "gemm_dtype": np.full(count, "bfloat16"), "system": np.full(count, "h100_sxm"),
        "engine": np.full(count, "vllm"), "kernel_source": np.full(count, ""), "latency": np.ones(count),
    }  # fmt: skip
    true = predict(rows, kind_of(rows), {"h100_sxm": scaled(FOUND, np.asarray(factors))})
    return {**rows, "latency": true.predicted * 1e3}


@pytest.mark.parametrize("factors", [(1.0, 1.0, 1.0), (0.6, 1.0, 1.0), (0.7, 0.7, 1.5)])
def test_ten_rows_bring_the_others_close(factors: tuple[float, float, float]) -> None:
    rows = table(factors)
    kind = kind_of(rows)
    few, rest = ({k: v[part] for k, v in rows.items()} for part in (slice(0, 10), slice(10, None)))
    better = adapted(few, kind, "h100_sxm", FOUND)
    before, after = (predict(rest, kind, {"h100_sxm": e}).error for e in (FOUND, better))
    assert np.median(after) < max(0.05, 0.3 * np.median(before))
    assert np.all(np.isfinite(after))
