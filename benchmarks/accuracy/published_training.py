"""Published training runs beside predicted ones.

``python -m benchmarks.accuracy.published_training``: rows, assumptions and sources in ``published/training.yaml``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tierwise.measure.training import table
from tierwise.training.pipeline import played, span
from tierwise.training.recipe import Recipe, TrainingFramework
from tierwise.training.step import TrainStep

FILE = Path(__file__).parent / "published" / "training.yaml"


def published() -> dict[str, Any]:
    """What is published."""
    data: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return data


def columns(row: Mapping[str, Any], usual: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """A row with what it shares with others."""
    out: dict[str, Any] = {}
    for name in row.get("like", ()):
        out |= usual[name]
    return {**out, **row}


def step(row: Mapping[str, Any]) -> TrainStep:
    """The predicted step of a row."""
    found = table([dict(row)])
    if found.refused:
        raise ValueError(f"{row['name']}: {found.refused[0]}")
    group = found.groups[0]
    far = group.system.scale_out
    if "port" in row and far is not None:
        group = replace(group, system=replace(group.system, scale_out=replace(far, bandwidth=float(row["port"]))))
    if row.get("plain"):
        return group.step(replace(TrainingFramework("plain"), recipe=Recipe(precision=group.how.recipe.precision)))
    return group.step()


def plain(x: Any) -> Any:
    """The one element of arrays, all through a value."""
    if isinstance(x, tuple):
        return tuple(map(plain, x))
    if is_dataclass(x) and not isinstance(x, type):
        return replace(x, **{f.name: plain(getattr(x, f.name)) for f in fields(x)})
    return float(x.reshape(-1)[0]) if isinstance(x, np.ndarray) else x


def beside(row: Mapping[str, Any], made: TrainStep) -> tuple[str, float, float]:
    """(what, published, predicted with the pipeline as played)."""
    layout, stages = plain(made.layout), plain(made.stages)
    summed = float(np.asarray(made.time).reshape(-1)[0])
    seconds = summed + float(np.asarray(played(layout, stages).timeline.time - span(layout, stages)))
    if "seconds" in row:
        return "s", float(row["seconds"]), seconds
    if "mfu" in row:
        return "MFU %", 100.0 * row["mfu"], 100.0 * float(np.asarray(made.mfu).reshape(-1)[0]) * summed / seconds
    devices = float(np.asarray(made.layout.devices).reshape(-1)[0])
    if "rate" in row:
        return "t/s", float(row["rate"]), row["gbs"] * row["seq"] / (seconds * devices)
    steps = row["tokens"] / (row["gbs"] * row["seq"])
    return "h", float(row["hours"]), steps * seconds * devices / 3600.0


def kept(made: TrainStep) -> tuple[float, float]:
    """(bytes of states, bytes that wait for the backward pass); what one op or the loss needs meanwhile left out."""
    parts = {k: float(np.asarray(v).reshape(-1)[0]) for k, v in made.memory.parts.items()}
    return sum(parts[k] for k in ("parameters", "gradients", "optimizer states")), parts["activations"]


def main() -> None:
    """Print each row."""
    data = published()
    errors: dict[str, list[float]] = {}
    print(f"{'':44}{'published':>14}{'predicted':>14}")
    for row in (columns(r, data["usual"]) for r in data["rows"]):
        what, said, found = beside(row, step(row))
        errors.setdefault(row["of"], []).append(abs(found / said - 1.0))
        print(f"{row['name']:44}{said:14,.4g}{found:14,.4g} {what:6}{found / said - 1.0:+7.1%}")
    print(f"\n{'GiB: states, kept':44}{'published':>14}{'predicted':>14}")
    for row in (columns(r, data["usual"]) for r in data["memory"]):
        states, some = kept(step(row))
        said, found = row["states"] + row["kept"], (states + some) / 2.0**30
        errors.setdefault("korthikanti, memory", []).append(abs(found / said - 1.0))
        print(f"{row['name']:44}{row['states']:7.1f}{row['kept']:7.1f}{states / 2**30:7.1f}{some / 2**30:7.1f}"
              f"       {found / said - 1.0:+7.1%}")  # fmt: skip
    print()
    for name, some_ in errors.items():
        print(f"{name:44}n {len(some_):3}   median {np.median(some_):6.1%}   mean {np.mean(some_):6.1%}")


if __name__ == "__main__":
    main()
