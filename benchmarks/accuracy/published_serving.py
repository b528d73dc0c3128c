"""Published rates of DeepSeek-V3 with experts over many nodes beside predicted ones.

``python -m benchmarks.accuracy.published_serving``: rows and sources in ``published/deepseek_serving.yaml``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tierwise.machines import system
from tierwise.models.load import load_model
from tierwise.scenario.types import Plan
from tierwise.steps.price import engine_on, price_step
from tierwise.steps.state import Chunk, StepState

FILE = Path(__file__).parent / "published" / "deepseek_serving.yaml"
GPUS = 8.0


def table() -> dict[str, Any]:
    """What is published."""
    data: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return data


def seconds(row: Mapping[str, Any]) -> float:
    """Predicted seconds of a row's step."""
    experts = float(row["experts"])
    plan = Plan(tp=1.0, dp=experts, ep=experts, schedule=row["schedule"], imbalance=float(row.get("imbalance", 1.0)))
    on = engine_on(load_model("deepseek-v3"), plan, system(row["machine"]), "sglang", max_seqs=1024)
    if "prompts" in row:
        state = StepState(chunks=(Chunk(float(row["prompts"]), 0.0, row["tokens"] / row["prompts"]),))
    else:
        n = float(row["requests"])
        state = StepState(decodes=n, context=n * row["context"], drafts=float(row.get("drafts", 0.0)))
    return float(np.asarray(price_step(on, state).time))


def rate(row: Mapping[str, Any]) -> float:
    """Predicted tokens per second and node."""
    return GPUS * float(row.get("tokens", row.get("requests"))) / seconds(row)


def main() -> None:
    """Print each row."""
    for row in table()["rows"]:
        if "seconds" in row:
            found, said = 1e3 * seconds(row), 1e3 * row["seconds"]
        else:
            found, said = rate(row), row["rate"]
        note = "  (gives the imbalance)" if "gives" in row else ""
        print(f"{row['name']:40s} {said:10,.1f} {found:10,.1f} {found / said - 1.0:+7.1%}{note}")


if __name__ == "__main__":
    main()
