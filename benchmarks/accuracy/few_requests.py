"""Published times of few requests at once beside predicted ones: ``python -m benchmarks.accuracy.few_requests``.

Rows and sources in ``published/few_requests.yaml``. No fit has seen them. Beside each the time that the memory takes to
give a device its weights once.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tierwise.machines import system
from tierwise.models.load import load_model
from tierwise.scenario.types import KV, Plan
from tierwise.serving.step_times import formats_of
from tierwise.steps.cost import StepCost
from tierwise.steps.price import EngineOn, engine_on, price_step
from tierwise.steps.state import Chunk, StepState

FILE = Path(__file__).parent / "published" / "few_requests.yaml"


def table() -> dict[str, Any]:
    """What is published."""
    data: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return data


def engine_of(row: Mapping[str, Any]) -> EngineOn:
    """The engine of a row on its machine; a cache of 16 bits, which these engines kept unless told."""
    machine = system(row["machine"])
    weights = "" if row["weights"] == "bf16" else row["weights"]
    model = formats_of(load_model(row["model"]), weights, weights)
    return engine_on(model, Plan(tp=float(machine.count), kv=KV()), machine, row["engine"])


def step(row: Mapping[str, Any], on: EngineOn | None = None) -> StepCost:
    """The mean decode step of a row."""
    n = float(row["requests"])
    return price_step(on or engine_of(row), StepState.decoding(n, row["prompt"] + row["output"] / 2.0))


def seconds(row: Mapping[str, Any]) -> float:
    """Predicted seconds of what a row measured: per output token, or of the batch with its prompts."""
    on = engine_of(row)
    found = float(np.asarray(step(row, on).time))
    if not row.get("whole"):
        return found
    prompts = StepState(chunks=(Chunk(float(row["prompt"]), 0.0, float(row["requests"])),))
    return float(np.asarray(price_step(on, prompts).time)) + (row["output"] - 1.0) * found


def least(row: Mapping[str, Any]) -> float:
    """Seconds in which the memory gives a device, at its datasheet's rate, the weights that each token reads."""
    on = engine_of(row)
    weights = float(np.asarray(step(row, on).program.bytes_of("weight")))
    return weights / float(np.asarray(on.device.tiers[-1].bandwidth))


def main() -> None:
    """Print each row, then medians by source."""
    off: dict[str, list[float]] = {}
    for row in table()["rows"]:
        found, said = seconds(row), row["seconds"]
        each = said / row["output"] if row.get("whole") else said
        off.setdefault(row["of"], []).append(found / said - 1.0)
        print(f"{row['of']:7s} {row['model']:13s} {row['machine']:17s} {row['weights']:5s} {row['requests']:2d} x "
              f"{row['prompt']:5d} {1e3 * each:8.2f} ms a token, {each / least(row):5.2f} of the least; "
              f"predicted {found / said - 1.0:+7.1%}")  # fmt: skip
    for name, errors in off.items():
        print(f"{name:7s} {len(errors):3d} rows: median error {np.median(np.abs(errors)):.1%}, "
              f"median of all {np.median(errors):+.1%}")  # fmt: skip


if __name__ == "__main__":
    main()
