"""Lines in which llama.cpp broke a device's memory down, beside the account."""

from __future__ import annotations

import numpy as np
import pytest

from tierwise.measure.breakdowns import check
from tierwise.measure.columns import Table


def lines(*rows: tuple[str, str, str, float, float, float]) -> Table:
    columns = list(zip(*rows, strict=True))
    names = ("device", "model", "setting", "model_mib", "context_mib", "compute_mib")
    return {n: np.asarray(c) for n, c in zip(names, columns, strict=True)}


def test_published_lines_are_what_the_account_says() -> None:
    """A 4080 (build 8211; its head is the embedding's matrix, copied as it is stored), and a Hexagon."""
    found = check(lines(("RTX 4080", "qwen3-1.7b Q4_K_M", "ctx auto (40960)", 1050.0, 4480.0, 300.0),
                        ("HTP0+1-REPACK", "OLMoE-1B-7B Q4_0 -c 8192 KV q8_0", "", 3600.0, 0.0, 0.0),
                        ("RTX 4090", "Qwen3-30B-A3B F16 --fit", "-c 4096", 17904.0, 384.0, 898.0)))  # fmt: skip
    assert found.what.tolist() == ["weights", "caches", "compute", "weights", "caches"]  # not what --fit left elsewhere
    assert found.error.max() < 0.005
    assert not found.refused


def test_a_wrong_size_is_seen_and_a_line_without_a_model_refused() -> None:
    found = check(lines(("RTX 4080", "qwen3-1.7b Q4_K_M", "-c 20480", 1400.0, 4480.0, 0.0),
                        ("RTX 3090", "(not stated)", "", 1.0, 1.0, 1.0)))  # fmt: skip
    assert found.predicted[1] == pytest.approx(found.printed[1] / 2)
    assert found.error[0] > 0.2
    assert len(found.refused) == 1 and "names no model" in found.refused[0].reason
