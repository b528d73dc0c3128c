"""Predictions beside published rates of vision models: graphs and catalog models, by GPU and framework.

A file has one row a measurement: ``model``, ``machine`` (a name of the catalog), ``framework``, ``compiler``,
``precision``, ``layout``, ``phase``, ``batch``, ``img_h``, ``img_w``, ``n_devices``, and ``throughput_per_s`` or
``latency_ms``. Models are graphs ``graphs/NAME*.onnx`` beside the file (the first by name), or of the catalog.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tierwise.core.errors import BadField, TierwiseError
from tierwise.core.numerics import fmt
from tierwise.evaluation import evaluate
from tierwise.measure.columns import MEASURED, SIZE, complete, numbers
from tierwise.measure.ops import Predictions, Table
from tierwise.models.load import load_model, model_names
from tierwise.models.names import letters
from tierwise.models.types import Model
from tierwise.scenario.types import Batch, Plan, Scenario

COLUMNS = ("model", "machine", "framework", "compiler", "precision", "layout", "phase", "batch", "img_h", "img_w",
           "throughput_per_s", "latency_ms")  # fmt: skip
BOUNDS = {"batch": SIZE, "img_h": SIZE, "img_w": SIZE, "n_devices": SIZE, "throughput_per_s": MEASURED,
          "latency_ms": MEASURED}  # fmt: skip
# What people call them, as patterns: (framework or compiler, engine).
_ENGINES = (
    (r"tensorrt", "tensorrt"),
    (r"inductor|torch\.compile", "torch-compile"),
    (r"onnx", "onnxruntime"),
    (r"^(pytorch|mmdet|mmseg|openmm)", "torch"),
)
# Weights and activations by precision. Under automatic mixed precision weights stay in 32 bits.
_PLANS = {
    "amp-fp16": ("", "fp16"), "amp": ("", "fp16"), "amp-bf16": ("", "bf16"), "fp16": ("fp16", "fp16"),
    "bf16": ("bf16", "bf16"), "fp32": ("fp32", "fp32"), "tf32": ("fp32", "fp32"), "int8": ("int8", "int8"),
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """What rows share that are evaluated at once: everything but the batch.

    Attributes:
        model: file or catalog name; ``side``: pixels of an image's side.
        engine: as ``--engine`` takes it.
    """

    model: str
    side: int
    machine: str
    engine: str
    precision: str


def checked(table: Table, where: str) -> Table:
    """The table with its numbers as numbers.

    Raises:
        BadField: a column is missing, or a cell cannot be.
    """
    return numbers(complete(table, COLUMNS, where), where, BOUNDS, tuple(BOUNDS))


def cases(table: Table, folder: Path) -> dict[Case, NDArray[np.intp]]:
    """Rows by case; those left out that no case answers (training, an unknown model, machine, framework or precision).

    Args:
        folder: of graphs.

    Raises:
        BadField: a column is missing.
    """
    if lacking := [c for c in COLUMNS if c not in table]:
        raise BadField(str(folder.parent), "columns", ", ".join(table), f"also {', '.join(lacking)}")
    found: dict[Case, list[int]] = defaultdict(list)
    for i in range(len(table["model"])):
        row = {c: table[c][i] for c in COLUMNS}
        model = model_file(str(row["model"]).split(".")[0], str(folder)) if row["phase"] == "infer" else None
        engine, precision = engine_of(row), str(row["precision"])
        sized = all(_positive(row[c]) for c in ("batch", "img_h", "img_w")) and row["img_h"] == row["img_w"]
        if model and engine and row["machine"] and precision in _PLANS and sized:
            found[Case(model, int(row["img_h"]), str(row["machine"]), engine, precision)].append(i)
    return {case: np.asarray(rows) for case, rows in found.items()}


def predict(table: Table, folder: Path) -> Predictions:
    """What the engine says about every row: seconds of one batch; rows that no case answers are ``nan``."""
    known = cases(table, folder)
    measured = seconds(table)
    out = [np.full(len(measured), np.nan) for _ in range(3)]
    basis = np.full(len(measured), "", dtype="<U12")
    for case, rows in known.items():
        batch = np.asarray(table["batch"], dtype=float)[rows]
        distinct, index = np.unique(batch, return_inverse=True)
        try:
            result = evaluate(scenario(case, distinct if distinct.size > 1 else float(distinct[0])))
        except TierwiseError:
            continue
        low, high = result.interval
        for column, value in zip(out, (result.time, low, high), strict=True):
            column[rows] = np.broadcast_to(np.asarray(value, dtype=float), distinct.shape)[index]
        basis[rows] = np.broadcast_to(np.asarray(result.basis), distinct.shape)[index]
    predicted, low, high = out
    return Predictions(measured, predicted, low, high, basis)


def scenario(case: Case, batch: Any) -> Scenario:
    """The scenario of a case at one batch or many."""
    weights, acts = (fmt(f) if f else None for f in _PLANS[case.precision])
    plan = Plan(weights=weights, activations=acts)
    model = sized(case.model, case.side)
    return Scenario(model, case.machine, Batch(prompt=1.0, output=1.0, batch=batch, image_size=float(case.side)), plan,
                    engine=case.engine)  # fmt: skip


@lru_cache(maxsize=4096)
def sized(model: str, side: int) -> Model:
    """A model at an image size, read once."""
    return load_model(model, float(side))


def seconds(table: Table) -> NDArray[np.float64]:
    """Measured seconds of a batch on one device: from the rate where there is one, else the latency."""
    rate, latency, batch = (np.asarray(table[c], dtype=float) for c in ("throughput_per_s", "latency_ms", "batch"))
    devices = np.asarray(table["n_devices"], dtype=float) if "n_devices" in table else np.ones_like(batch)
    devices = np.where(np.isfinite(devices), devices, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.isfinite(rate) & (rate > 0), batch * devices / rate, latency * 1e-3)


def engine_of(row: Mapping[str, Any]) -> str:
    """The engine that a row's framework and compiler name; ``""`` for one that none on file stands for."""
    for text in (str(row["compiler"]).lower(), str(row["framework"]).lower()):
        for pattern, engine in _ENGINES:
            if re.search(pattern, text):
                last = engine == "torch" and str(row["layout"]).lower() in ("nhwc", "channels_last")
                return "torch-channels-last" if last else engine
    return ""


@lru_cache(maxsize=4096)
def model_file(name: str, folder: str) -> str | None:
    """The graph of a name beside the file, else the catalog's model whose name has the same letters and digits."""
    graphs = sorted(Path(folder).glob(f"{name}.*onnx")) if re.fullmatch(r"[\w-]+", name) else []
    if graphs:
        return str(graphs[0])
    return _catalog().get(letters(name))


@lru_cache(maxsize=1)
def _catalog() -> dict[str, str]:
    seeing = [n for n in model_names() if re.match(r"resnet|vit-|deit-", n)]
    out = {letters(n): n for n in seeing}
    # timm names the size of patches and images, which papers leave out where there is one.
    out |= {letters(n) + "patch16224": n for n in seeing if n.startswith("deit-")}
    return out


def _positive(value: Any) -> bool:
    return value is not None and bool(np.isfinite(value)) and value > 0


def groups(table: Table, names: Sequence[str]) -> dict[tuple[str, ...], NDArray[np.intp]]:
    """Rows by the values of some columns."""
    keys = list(zip(*(np.asarray(table[n], dtype=str) for n in names), strict=True))
    out: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for i, key in enumerate(keys):
        out[key].append(i)
    return {k: np.asarray(v) for k, v in sorted(out.items())}


def refused_as_100(p: Predictions) -> Predictions:
    """The same with rows that went unanswered as predictions of nothing: each 100 % off and outside its interval."""
    known = np.isfinite(p.predicted)
    low, mid, high = (np.where(known, x, 0.0) for x in (p.low, p.predicted, p.high))
    return replace(p, measured=np.where(known, p.measured, 1.0), predicted=mid, low=low, high=high)


__all__ = ["COLUMNS", "Case", "cases", "checked", "engine_of", "groups", "model_file", "predict", "refused_as_100",
           "scenario", "seconds", "sized"]  # fmt: skip
