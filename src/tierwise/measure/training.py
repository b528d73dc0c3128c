"""Recorded training steps beside predictions.

A file has one row a run: the shape of the model, the layout, and what was measured (seconds a step, tokens a second,
peak memory). Two kinds are read: tables with the columns of :data:`COLUMNS`, and the CSV of vTrain's artifact (GPUs,
batch, shape and degrees, milliseconds). Rows of one kind of model on one GPU are priced together, as arrays.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tierwise.core.errors import BadField, TierwiseError
from tierwise.core.numerics import fmt
from tierwise.machines.types import System
from tierwise.measure import columns, recipes
from tierwise.models.blocks.attention import Attention
from tierwise.models.blocks.common import Norm
from tierwise.models.blocks.ends import Embedding, Head
from tierwise.models.blocks.mlp import MLP
from tierwise.models.blocks.moe import MoE
from tierwise.models.load import load_model as catalog
from tierwise.models.types import Block, Layer, Model, Stack
from tierwise.training.layout import RECOMPUTE, Layout, pipelines
from tierwise.training.memory import memory_of
from tierwise.training.recipe import GRAPHS, Recipe, TrainingFramework, framework, method
from tierwise.training.step import TrainStep, composed
from tierwise.training.work import ModelWork, work_of

COLUMNS = ("framework", "gpu", "hidden", "layers", "heads", "seq", "gbs", "mbs", "tp", "pp", "dp")
_VTRAIN = (
    "# GPUs",
    "global batch",
    "micro batch",
    "hidden size",
    "attention heads",
    "# layers",
    "sequence length",
    "tensor parallelism",
    "data parallelism",
    "pipeline parallelism",
    "iteration time (ms)",
)
_NUMBERS = {
    **dict.fromkeys(("hidden", "layers", "heads", "kv_heads", "ffn", "vocab", "experts", "topk", "seq", "gbs", "mbs",
                     "tp", "pp", "dp", "vp", "cp", "ep", "gpus_per_node", "n_gpus"), columns.COUNT),
    **dict.fromkeys(("sp", "tied", "dispatch", "aside", "grouped", "ahead"), (0.0, 1.0)), "reduced": (1.0, 4.0),
    "zero_stage": (0.0, 3.0), "iter_s": columns.MEASURED,
    "peak_mem_gb": columns.MEASURED,
}  # fmt: skip
# What a framework's name in a recording starts with, and whose recipe its runs follow.
_FRAMEWORKS = (
    ("nanotron", "nanotron"),
    ("llm-foundry", "fsdp"),
    ("litgpt", "fsdp"),
    ("levanter", "fsdp"),
    ("torchtitan", "fsdp"),
    ("megatron-deepspeed", "megatron-deepspeed"),
    ("megatron/deepspeed", "megatron-deepspeed"),
    ("megatron-lm 2022", "megatron-2022"),
    ("megatron-lm 2024", "megatron-2024"),
    ("nemo 24", "megatron-2024"),
    ("nvidia nemo framework release 24", "megatron-2024"),
    ("megatron", "megatron"),
    ("nemo", "megatron"),
    ("vtrain", "megatron-2022"),
    ("nvidia nemo", "megatron"),
    ("pytorch nvidia", "megatron"),
    ("ngc pytorch", "megatron"),
    ("nvidia ngc pytorch", "megatron"),
)


@dataclass(frozen=True)
class TrainingGroup:
    """Rows priced together.

    Attributes:
        rows: numbers of the rows. ``model``, ``system``, ``layout``, ``depth``: of all of them, as arrays.
        how: the framework. ``flash``: fused attention.
    """

    rows: NDArray[np.int64]
    model: Model
    system: System
    layout: Layout
    depth: NDArray[np.float64] | None
    how: TrainingFramework
    flash: bool
    _work: dict[str, ModelWork] = field(default_factory=dict, compare=False)

    def step(self, how: TrainingFramework | None = None) -> TrainStep:
        """The predictions of time and memory."""
        how = how or self.how
        return composed(self.model, self.system, self.layout, how, self.work(how))

    def work(self, how: TrainingFramework) -> ModelWork:
        """The work of a micro-batch, priced once whatever the framework's coefficients."""
        form = how.recipe.precision
        if form not in self._work:
            self._work[form] = work_of(self.model, self.system, self.layout, how, self.flash, self.depth)
        return self._work[form]

    def peak(self, stage: NDArray[np.str_], how: TrainingFramework | None = None) -> NDArray[np.float64]:
        """Bytes on a device of the stage that each row tells of: ``first``, ``last`` or ``fullest``."""
        how = how or self.how
        out = np.full(len(self.rows), np.nan)
        for name in sorted(set(stage)):
            found = memory_of(self.model, self.system, self.layout, how, self.work(how), name).peak
            out = np.where(stage == name, np.broadcast_to(found, len(self.rows)), out)
        return out


@dataclass(frozen=True)
class TrainingRows:
    """Rows of a file: columns as arrays, groups of rows that can be priced, and the others with the reason."""

    columns: Mapping[str, NDArray[Any]]
    groups: tuple[TrainingGroup, ...]
    refused: Mapping[int, str]

    def __len__(self) -> int:
        return len(self.columns["gpu"])


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a file, as dicts of the columns above: numbers as numbers (None for none), all else as text.

    Raises:
        TierwiseError: no such file, or not a table of training runs.
    """
    if not path.is_file():
        raise TierwiseError(f"{path}: no such file")
    found = columns.read(path) if path.suffix == ".parquet" else _csv(path)
    vtrain = all(c in found for c in _VTRAIN)
    missing = [c for c in (_VTRAIN if vtrain else COLUMNS) if c not in found or not len(found[c])]
    if missing:
        lacks = "a table with rows of " if not set(missing) - set(found) else "a table with "
        raise BadField(str(path), "columns", sorted(found) or None, lacks + ", ".join(COLUMNS))
    bounds = dict.fromkeys(_VTRAIN, columns.AMOUNT) if vtrain else _NUMBERS
    typed = columns.numbers(found, str(path), bounds, () if vtrain else tuple(_NUMBERS))
    held = [[None if isinstance(v, float) and math.isnan(v) else v for v in c.tolist()] for c in typed.values()]
    rows: list[dict[str, Any]] = [dict(zip(typed, row, strict=True)) for row in zip(*held, strict=True)]
    return [_from_vtrain(r) for r in rows] if vtrain else rows


def _csv(path: Path) -> columns.Table:
    """Every cell as text: a column of whole numbers must not become text by one that is none."""
    import csv

    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            head, *rows = [[c.strip() for c in row] for row in csv.reader(file, skipinitialspace=True) if row] or [[]]
    except (UnicodeDecodeError, csv.Error):
        raise TierwiseError(f"{path}: not a CSV file of text") from None
    if len(set(head)) != len(head):
        twice = next(n for n in head if head.count(n) > 1)
        raise BadField(str(path), "columns", f"{twice!r} twice", "each column once")
    wrong = next((i for i, row in enumerate(rows) if len(row) != len(head)), None)
    if wrong is not None:
        raise BadField(f"{path}: row {wrong + 1}", "cells", len(rows[wrong]), f"{len(head)}, one a column")
    return {name: np.asarray([row[i] for row in rows], dtype=object) for i, name in enumerate(head)}


def _from_vtrain(r: Mapping[str, Any]) -> dict[str, Any]:
    names = ("n_gpus", "gbs", "mbs", "hidden", "heads", "layers", "seq", "tp", "dp", "pp", "iter_s")
    out: dict[str, Any] = {n: r[c] for n, c in zip(names, _VTRAIN, strict=True)}
    return {
        **out,
        "iter_s": out["iter_s"] / 1e3,
        "framework": "vTrain",
        "model": "gpt",
        "family": "gpt",
        "vocab": 51200.0,
        "ffn": 4.0 * out["hidden"],
        "kv_heads": out["heads"],
        "gpu": "a100-sxm-80gb",
        "gpus_per_node": 8.0,
        "flags": "unfused attention",
        "tied": 1.0,
        "precision": "fp16",
        "status": "ok",
    }


def table(rows: Sequence[Mapping[str, Any]]) -> TrainingRows:
    """Rows grouped by what has to be equal to be priced as one array."""
    kinds: dict[tuple[Any, ...], list[int]] = {}
    refused: dict[int, str] = {}
    stated = [recipes.stated(r) for r in rows]
    # A batch that nobody stated is one micro-batch a replica: memory does not depend on it (and no time is compared).
    rows = [{**r, "gbs": recipes.minibatch(r) or (r.get("mbs") or 0.0) * (r.get("dp") or 1.0)} for r in stated]
    for i, r in enumerate(rows):
        try:
            kinds.setdefault(_kind(r), []).append(i)
        except TierwiseError as error:
            refused[i] = str(error)
    groups = []
    for kind, members in kinds.items():
        try:
            groups.append(_group(kind, members, rows))
        except TierwiseError as error:
            refused |= dict.fromkeys(members, str(error))
    names = sorted({name for r in stated for name in r})
    columns = {n: np.asarray([r.get(n) for r in stated], dtype=object) for n in names}
    return TrainingRows(columns, tuple(groups), refused)


def _kind(r: Mapping[str, Any]) -> tuple[Any, ...]:
    """What rows that are priced together share.

    Raises:
        TierwiseError: what the row leaves open.
    """
    for name in ("hidden", "layers", "heads", "seq", "gbs", "mbs", "tp", "pp", "dp"):
        if not r.get(name):
            raise TierwiseError(f"the row does not say {name}")
    name = str(r["framework"]).lower()
    how = next((to for start, to in _FRAMEWORKS if name.startswith(start)), "")
    if not how:
        raise TierwiseError(f"{r['framework']}: a framework that nothing is on file of")
    adapters = _adapters(r)
    family = str(r.get("family") or "")
    moe = bool(r.get("experts"))
    known = recipes.known(str(r.get("model") or ""), r["hidden"], r["layers"]) if moe else ""
    if not known and (family.startswith(("t5", "bert", "hybrid", "multimodal", "mimo")) or (moe and not r.get("ffn"))):
        raise TierwiseError(f"{family}: the columns do not say its shape")
    gated = recipes.gated(r, family)
    flags = str(r.get("flags") or "")
    flash = recipes.fused(flags)
    form = _precision(str(r.get("precision") or "bf16"))
    if "fp4" in str(r.get("flags")):
        form = "nvfp4"
    per_node = float(r.get("gpus_per_node") or 8.0)
    if (r.get("graphs") or "none") not in GRAPHS:
        raise TierwiseError(f"graphs {r['graphs']}: one of {', '.join(GRAPHS)}")
    own = tuple((k, r[k]) for k in recipes.FIELDS if r.get(k) not in (None, ""))
    own += recipes.deepspeed(flags) if how == "megatron-deepspeed" else ()
    node = per_node, recipes.network(flags)
    return how, str(r["gpu"]), node, known, moe, gated, bool(r.get("tied")), flash, form, adapters, own


def _adapters(r: Mapping[str, Any]) -> tuple[float, float]:
    """(parameters of low-rank adapters, 0 where all is trained; bytes of a frozen weight).

    Raises:
        TierwiseError: adapters of which nobody says how many parameters they have.
    """
    said = [str(r.get(name) or "").lower() for name in ("flags", "precision", "model")]
    if not any("lora" in text or "adapter" in text for text in said):
        return 0.0, 2.0
    stated = re.search(r"trainable=(\d+)", said[0])
    if stated is None or "finetune_lora" not in said[0]:
        raise TierwiseError("adapters are trained")
    # NF4 with a scale in fp32 for 64 weights, or with scales that are quantized themselves (arXiv:2305.14314).
    held = method("qlora:r=1", Recipe()).parameters if "nf4-dq" in said[1] else 0.5 + 4.0 / 64.0
    return float(stated[1]), held if "nf4" in said[1] else 2.0


def _precision(text: str) -> str:
    for start, name in (("mxfp8", "fp8"), ("fp8", "fp8"), ("nvfp4", "nvfp4"), ("fp16", "bf16"), ("bf16", "bf16")):
        if text.startswith(start):
            return name
    raise TierwiseError(f"{text}: a precision of more than one format")


def _group(kind: tuple[Any, ...], members: Sequence[int], rows: Sequence[Mapping[str, Any]]) -> TrainingGroup:
    how, gpu, node, known, moe, gated, tied, flash, form, (adapters, frozen), own = kind
    mine = [rows[i] for i in members]

    def column(name: str, default: float | str = 1.0) -> NDArray[np.float64]:
        return np.asarray([float(r.get(name) or (r[default] if isinstance(default, str) else default)) for r in mine])

    # Collectives cut up beside products are of parts of the sequence (Transformer Engine's user buffers).
    overlapped = np.asarray([float("TP_COMM_OVERLAP=True" in str(r.get("flags"))) for r in mine])
    recompute = np.asarray([_level(str(r.get("recompute") or "none")) for r in mine])

    def again(module: str) -> NDArray[np.float64]:
        return np.asarray([float(module in _modules(str(r.get("recompute")))) for r in mine])

    layout = Layout(
        tp=column("tp"),
        pp=column("pp"),
        dp=column("dp"),
        cp=column("cp"),
        ep=column("ep"),
        interleave=column("vp"),
        micro_batch=column("mbs"),
        global_batch=column("gbs"),
        seq=column("seq"),
        recompute=recompute,
        again_norm=again("layernorm"),
        again_act=again("moe_act"),
        again_up=again("mla_up_proj"),
        sequence_parallel=np.maximum(column("sp", 0.0), overlapped) * (column("tp") > 1),
        asynchronous=overlapped,
        zero=column("zero_stage", 0.0),
        schedule=np.asarray([float(pipelines().index(r.get("schedule") or pipelines()[0])) for r in mine]),
        first=column("first", 0.0),
        last=column("last", 0.0),
    )
    machine = recipes.machine(gpu, *node)
    found, at = framework(how), np.asarray(members)
    found = replace(found, recipe=replace(found.recipe, precision=form, **dict(own)))
    if known:
        return TrainingGroup(at, catalog(known), machine, layout, None, found, flash)
    hidden, heads = column("hidden"), column("heads")
    if adapters > 0:
        h, up, parts = float(hidden[0]), float(column("ffn", 0.0)[0] or 4.0 * hidden[0]), 2.0 if gated else 1.0
        kv = 2.0 * h / float(heads[0]) * float(column("kv_heads", "heads")[0])
        # What a rank of one has on a layer's linear maps: on queries, keys and values; output; up; down.
        each = float(column("layers")[0]) * ((4.0 * h + kv) + 2.0 * h + parts * (h + up) + (up + h))
        # LitGPT wraps a layer's adapters together with its frozen weights, and writes RMSNorm and gated activations as
        # lines of PyTorch (litgpt/finetune/lora.py, litgpt/model.py; LayerNorm is PyTorch's own kernel).
        found = replace(found, recipe=replace(found.recipe, rank=adapters / each, parameters=frozen, mixed=1.0,
                                              lines=float(gated), inputs=float(frozen < 2.0)))  # fmt: skip
    wide = column("head_dim", 0.0)
    attention = Attention(hidden, heads, column("kv_heads", "heads"), np.where(wide > 0, wide, hidden / heads))
    inner = column("ffn", 0.0)
    inner = np.where(inner > 0, inner, 4.0 * hidden)
    block: Block = MLP(hidden, inner, gated)
    if moe:
        block = MoE(hidden, column("experts"), column("topk"), inner, gated)
        attention = replace(attention, head_dim=np.where(hidden == 2880.0, 64.0, 128.0))
    layer = Layer("decoder", (Norm(hidden), attention, Norm(hidden), block))
    vocab = column("vocab", 50304.0)
    stack = Stack(
        "decoder",
        (layer,),
        (0,),
        (Embedding(vocab, hidden),),
        (Norm(hidden, name="final_norm"), Head(hidden, vocab, tied=tied)),
    )
    model = Model("recorded", "recorded", hidden, vocab, (stack,), {"*": fmt("bf16")})
    return TrainingGroup(at, model, machine, layout, column("layers"), found, flash)


def _level(text: str) -> float:
    """An index into :data:`RECOMPUTE`; of modules that are listed, ``core_attn`` is what "selective" says alone."""
    listed = _modules(text)
    if listed and "core_attn" not in listed:
        return 0.0
    return float(RECOMPUTE.index(next((r for r in RECOMPUTE if text.startswith(r)), "none")))


def _modules(text: str) -> frozenset[str]:
    """Megatron's ``--recompute-modules`` where a row lists them: ``selective modules=[layernorm moe_act]``."""
    listed = re.search(r"modules=\[([^\]]*)\]", text)
    return frozenset(re.findall(r"\w+", listed[1])) if listed else frozenset()


def measured(t: TrainingRows) -> NDArray[np.float64]:
    """Seconds a step of every row; nan where the file has none that can be used."""
    out = np.full(len(t), np.nan)
    none = np.full(len(t), None, dtype=object)
    get = {n: t.columns.get(n, none) for n in ("iter_s", "check", "status", "flags", "framework", "gbs")}
    for i in range(len(t)):
        if get["status"][i] not in ("ok", None, "") or "time" in str(get["check"][i] or "") or not get["gbs"][i]:
            continue
        # Tests in deterministic mode, and kernels waited for one by one, are not what training runs.
        if str(get["framework"][i]).endswith(" CI") or "LAUNCH_BLOCKING" in str(get["flags"][i]):
            continue
        if get["iter_s"][i]:
            out[i] = float(get["iter_s"][i])
    return out


def measured_memory(t: TrainingRows) -> tuple[NDArray[np.float64], NDArray[np.str_]]:
    """(bytes at the peak of every row, nan where the file has none; the stage whose device they are of)."""
    none = np.full(len(t), None, dtype=object)
    size, kind, status, read_of = (t.columns.get(n, none) for n in ("peak_mem_gb", "mem_kind", "status", "stage"))
    out, stage = np.full(len(t), np.nan), np.full(len(t), "fullest", dtype="<U8")
    for i in range(len(t)):
        said = str(kind[i] or "")
        stage[i] = "last" if "LAST" in said else "first" if "first PP" in said else read_of[i] or "fullest"
        if size[i] and status[i] == "ok" and "analytic" not in said:
            out[i] = float(size[i]) * (2.0**30 if "GiB" in said or "1024" in said else 1e9)
    return out, stage
