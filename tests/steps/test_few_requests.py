"""Few requests at once: published times, which no fit has seen."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks.accuracy.few_requests import least, seconds, table

ROWS = table()["rows"]


@pytest.mark.parametrize(("of", "within"), [("nim", 0.3), ("trtllm", 0.15), ("vllm", 0.15)])
def test_published_times_of_few_requests(of: str, within: float) -> None:
    """Medians by source. The server of the first adds to each step what the engine alone, the second, does not take."""
    off = [seconds(row) / row["seconds"] - 1.0 for row in ROWS if row["of"] == of]
    assert np.median(np.abs(off)) < within


def test_no_engine_reads_faster_than_the_memory_gives() -> None:
    for row in ROWS[:: len(ROWS) // 20]:
        each = row["output"] if row.get("whole") else 1.0
        assert least(row) < min(seconds(row), row["seconds"]) / each
