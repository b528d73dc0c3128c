"""Training steps that others recorded, beside predictions: errors stay where docs/accuracy.md says they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from tierwise.measure.training import read, table
from tierwise.report.validation.training import compared

SHARED = Path(__file__).resolve().parents[3] / "shared/data"
FILES = [SHARED / "training" / name for name in ("training_dev.parquet", "vtrain_a100_node_dev.csv")]
pytestmark = [pytest.mark.truth, pytest.mark.skipif(not FILES[0].exists(), reason="no shared measurements")]

# (of, source, trust): at most this median error. Held out by model and number of GPUs: docs/accuracy.md, Training.
BOUNDS = {
    ("time", "nanotron_ultrascale", "A"): 0.05,
    ("time", "llm_foundry", "A"): 0.06,
    ("time", "nvidia_nemo_24.07", "A"): 0.05,
    ("time", "nvidia_megatron_bridge", "A"): 0.16,
    ("time", "bigscience_tr11", "A"): 0.09,
    ("time", "", None): 0.08,
    ("memory", "nanotron_ultrascale", "A"): 0.08,
    ("memory", "megatron_ci_golden", "A"): 0.09,
}


def test_medians_are_as_documented() -> None:
    pytest.importorskip("pyarrow")
    rows = [row for path in FILES for row in read(path)]
    for (what, source, trust), bound in BOUNDS.items():
        mine = [r for r in rows if (r.get("source") or "") == source and r.get("trust") == trust]
        found = [e for e in compared(table(mine))["errors"] if e["of"] == what and e["answered"]]
        assert found, (what, source)
        for e in found:
            print(f"{what} {source or 'vtrain'}: n={e['answered']} median {e['median']:.1%} mean {e['mean']:.1%}")
            assert e["median"] <= bound
