"""The memory account beside the sizes of buffers that llama.cpp printed: weights, caches, compute buffers.

A table has the columns ``file, device, n, model, quant, n_ctx, engine, item, mib``, a row a printed size.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tierwise.core.errors import TierwiseError
from tierwise.core.numerics import fmt
from tierwise.evaluation import evaluate
from tierwise.machines import system
from tierwise.measure.columns import Table
from tierwise.measure.edge_rows import RefusedRows, model_of
from tierwise.scenario.types import KV, Batch, Plan, Scenario
from tierwise.techniques.tiers import partial_offload

COLUMNS = ("device", "n", "model", "quant", "n_ctx", "engine", "item", "mib")
MIB = 2.0**20
# Names of the recordings, as people write them.
_NAMES = {"7B": "llama-7b", "13B": "llama-13b", "30B": "llama-30b", "65B": "llama-65b", "7B-v2": "llama-2-7b",
          "13B-v2": "llama-2-13b", "70B-v2": "llama-2-70b", "8B-v3": "llama-3-8b", "70B-v3": "llama-3-70b"}  # fmt: skip
# What an item is a size of; sizes of cards are summed up. Others (of objects, of single tensors) are no account's.
_ITEMS = {
    r"VRAM used|(CUDA\d|Metal) buffer size": "weights",
    r"CPU buffer size": "embedding",
    r"KV self size|kv self size": "caches",
    r"compute buffer total size|(CUDA0|Metal) compute buffer size": "compute",
}
CONTEXT = 512.0  # where a log does not say: llama.cpp's default of the time


@dataclass(frozen=True)
class BufferAnswers:
    """Printed and predicted bytes by what they are of; ``label``: model and format of each."""

    what: NDArray[np.str_]
    label: NDArray[np.str_]
    printed: NDArray[np.float64]
    predicted: NDArray[np.float64]
    refused: tuple[RefusedRows, ...]

    @property
    def error(self) -> NDArray[np.float64]:
        """Relative error, unsigned."""
        return np.asarray(np.abs(self.predicted / self.printed - 1.0))


def check(table: Table) -> BufferAnswers:
    """Every log's sizes beside the account of the same model, format and context."""
    found: list[tuple[str, str, float, float]] = []
    refused = []
    accounts: dict[tuple[str, str, float, float], Mapping[str, float]] = {}
    for rows, key in _logs(table):
        model, quant, context, batch = key
        try:
            if key not in accounts:
                accounts[key] = account_of(_NAMES.get(model, model), quant, context, batch)
        except TierwiseError as error:
            refused.append(RefusedRows(rows, str(error)[:160]))
            continue
        printed: dict[str, float] = {}
        for i in rows:
            item = str(table["item"][i])
            what = next((w for pattern, w in _ITEMS.items() if re.fullmatch(pattern, item)), None)
            if what is not None:
                printed[what] = printed.get(what, 0.0) + float(table["mib"][i]) * MIB
        cards = len({str(table["item"][i]) for i in rows if re.fullmatch(r"CUDA\d buffer size", str(table["item"][i]))})
        if cards > 1:
            printed.pop("compute", None)  # with several cards each has copies of its inputs in flight
        found += [(what, f"{model} {quant}", size, accounts[key][what]) for what, size in printed.items() if size > 0]
    columns = list(zip(*found, strict=True)) if found else [(), (), (), ()]
    return BufferAnswers(np.asarray(columns[0], str), np.asarray(columns[1], str), np.asarray(columns[2], float),
                  np.asarray(columns[3], float), tuple(refused))  # fmt: skip


def _logs(table: Table) -> Iterator[tuple[NDArray[np.intp], tuple[str, str, float, float]]]:
    """(rows, (model, format, context, micro-batch)) of each printed log: sizes that stand together."""
    names = [n for n in ("file", "device", "n", "model", "quant", "n_ctx", "engine") if n in table]
    keys: dict[tuple[str, ...], dict[str, int]] = {}
    for i in range(len(table["mib"])):
        key = tuple(str(table[n][i]) for n in names)
        # One log prints each item once: the first of a file stands for its repeats.
        keys.setdefault(key, {}).setdefault(str(table["item"][i]), i)
    for key, items in keys.items():
        said = dict(zip(names, key, strict=True))
        context = said["n_ctx"]
        length = float(context) if re.fullmatch(r"[\d.]+", context) else CONTEXT
        rows = np.asarray(sorted(items.values()), dtype=np.intp)
        yield rows, (said["model"], said["quant"], length, min(length, 512.0))


def account_of(
    model: str, quant: str, context: float, batch: float, flash: bool = False, kv: str = "fp16"
) -> dict[str, float]:
    """What the account says of a model on one card, bytes; attention is not fused unless said. ``products``: weights
    that rows are multiplied with in its layers."""
    form = fmt({"f16": "fp16"}.get(quant.lower(), quant.lower()))
    cache = fmt(kv)
    plan = Plan(weights=form, flash=flash, kv=KV(cache, cache), chunk=batch)
    s = Scenario(model_of(model), system("h100-pcie + 512GB ddr5"), Batch(context - 1.0, 2.0, 1.0), plan,
                 engine="llama.cpp").apply(partial_offload())  # fmt: skip
    m = evaluate(s).memory
    return {"weights": float(m.weight_bytes), "embedding": float(m.elsewhere["host"]), "caches": float(m.kv),
            "compute": float(m.activations),
            "products": sum(float(m.weights.get(role, 0.0)) for role in ("attn", "mlp", "expert"))}  # fmt: skip
