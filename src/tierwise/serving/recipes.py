"""What a recorded row leaves out about its run, from the recipes its benchmark published (``recipes.yaml``)."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tierwise.core.yamltext import parsed
from tierwise.models.types import Model
from tierwise.serving.coefficients import EngineKey
from tierwise.serving.rows import ServingRow
from tierwise.serving.steady import ClosedLoopClients
from tierwise.serving.step_times import Array, formats_of, named_formats

_INFERENCEX = re.compile(r"config_id=|(?<!\d)\d{4}-\d\d-\d\d\.csv|(?<!auto-)gap-analysis\.csv")
_DATE = re.compile(r"measured=(\d{4}-\d\d-\d\d)")


class ExpertLayout(IntEnum):
    """How an engine divides experts and attention where its row does not say."""

    AS_RECORDED = 0
    EXPERTS_ON_EVERY_DEVICE = 1
    ATTENTION_RANK_PER_DEVICE = 2  # experts on every device too


class CacheFormat(IntEnum):
    """The format that an engine was told to keep its KV cache in."""

    OWN = 0  # the checkpoint's, or the model's where that says nothing
    FP8 = 1
    BF16 = 2


class ExpertKernels(IntEnum):
    """Whose kernels an engine was told to run experts with."""

    OWN = 0  # those it takes unless told
    GENERATED = 1  # those that TensorRT-LLM generates, its backend TRTLLM

    @property
    def kernel(self) -> str:
        """As recordings name them; ``""`` for an engine's own."""
        return "moe_torch_flow_min_latency" if self == ExpertKernels.GENERATED else ""


@dataclass(frozen=True)
class Conditions:
    """How each row was run, shape (n,).

    Attributes:
        client: see :class:`Client`.
        shorten: mean tokens over nominal ones; ``memory``: share of the device the engine takes; ``slots``: sequences
            an engine runs at once at most; ``draft``: draft tokens a step; ``draft_unknown``: 1 where it may as well
            have been none.
        expert_layout: of :class:`ExpertLayout`; ``cache``: of :class:`CacheFormat`; ``experts``: of
            :class:`ExpertKernels`.
        held: share of its answer's tokens that a request has a place for in the cache, in the mean over its life.
    """

    client: ClosedLoopClients
    shorten: Array
    memory: Array
    slots: Array
    draft: Array
    draft_unknown: Array
    expert_layout: Array
    cache: Array
    experts: Array
    held: Array


def conditions(rows: Sequence[ServingRow]) -> Conditions:
    """The settings of every row's run: its own where it states them, else its benchmark's recipe."""
    found = [_settings(_facts(r)) for r in rows]

    def column(name: str) -> Array:
        return np.asarray([f[name] for f in found], dtype=float)

    isl = np.asarray([r.isl for r in rows], dtype=float)
    stated = [r.draft is not None for r in rows]
    draft = np.where(stated, [r.draft or 0.0 for r in rows], column("draft"))
    unknown = np.where(stated, 0.0, column("draft_unknown"))
    names = ("shorten", "memory", "slots", "expert_layout", "cache", "experts", "held")
    shorten, memory, slots, layout, cache, experts, held = (column(name) for name in names)
    return Conditions(_client(column, isl), shorten, memory, slots, draft, unknown, layout, cache, experts, held)


def usual(key: EngineKey, model: str) -> ClosedLoopClients:
    """How an engine looks for requests by its own defaults, shape (1,): rules that ask for more than is given here
    do not hold."""
    found = _settings({"engine": key.engine, "system": key.system, "model": model, "dense": key.dense})
    return _client(lambda name: np.asarray([found[name]]), np.ones(1))


def key_of(row: ServingRow, model: Model | None = None) -> EngineKey:
    """Whose coefficients a row has: in the formats that its words mean of ``model``, where that is given."""
    client = "inferencex" if _INFERENCEX.search(row.source) else "other"
    build = f"{row.engine}/{row.version or _date(row)[:7] or '?'}"
    dense, experts = row.dense, row.experts
    if model is not None:
        dense, experts = named_formats(formats_of(model, row.dense, row.experts))
    return EngineKey(row.engine, row.system, dense, experts, client, build)


def _client(column: Callable[[str], Array], isl: Array) -> ClosedLoopClients:
    budget = np.maximum(column("budget"), column("budget_prompts") * isl)
    return ClosedLoopClients(budget, column("waves"), column("spread"), column("poll") / 2.0, column("cold"),
                             column("timeout"), column("captured"), column("prefill_first"))  # fmt: skip


def _facts(row: ServingRow) -> dict[str, Any]:
    """What rules can ask of a row."""
    key, own = key_of(row), row.decode
    return {"client": key.client, "engine": key.engine, "system": key.system, "model": row.model, "dense": key.dense,
            "version": row.version, "date": _date(row), "tp": own.tp, "dp": own.dp, "ep": own.ep, "isl": row.isl,
            "osl": row.osl, "concurrency": row.concurrency, "disaggregated": row.prefill is not None}  # fmt: skip


def _settings(facts: Mapping[str, Any]) -> dict[str, float]:
    out: dict[str, float] = {}
    for rule in _rules():
        # A rule may look at what earlier ones have set.
        if all(_holds(name, value, {**facts, **out}) for name, value in rule.items() if name != "set"):
            out.update({name: _number(value) for name, value in rule["set"].items()})
    return out


def _holds(name: str, value: Any, facts: Mapping[str, Any]) -> bool:
    fact, test = _TESTS[name]
    return fact in facts and bool(test(facts[fact], value))


def _number(value: Any) -> float:
    if not isinstance(value, str):
        return float(value)
    name = value.upper()
    return float(next(names[name] for names in (ExpertLayout, CacheFormat, ExpertKernels) if name in names.__members__))


def _date(row: ServingRow) -> str:
    match = _DATE.search(row.source)
    return match[1] if match else ""


# What a rule's field asks of which fact.
_TESTS: Mapping[str, tuple[str, Callable[[Any, Any], Any]]] = {
    "source": ("client", operator.eq),
    "engine": ("engine", lambda x, v: re.fullmatch(v, x)),
    "system": ("system", lambda x, v: x.lower().startswith(v)),
    "model": ("model", lambda x, v: re.search(v, x.lower())),
    "version": ("version", lambda x, v: re.fullmatch(v, x)),
    "dense": ("dense", operator.eq),
    "tp": ("tp", operator.eq),
    "under": ("tp", operator.lt),
    "ep": ("ep", operator.eq),
    "disaggregated": ("disaggregated", operator.eq),
    "ranks": ("dp", operator.ge),
    "isl": ("isl", operator.eq),
    "osl": ("osl", operator.eq),
    "drafted": ("draft", operator.ge),
    "flight": ("concurrency", operator.ge),
    "from": ("date", lambda x, v: x >= str(v)),
    "before": ("date", lambda x, v: "" < x < str(v)),
}


@cache
def _rules() -> list[dict[str, Any]]:
    data = parsed(Path(__file__).with_name("recipes.yaml").read_text())
    rules: list[dict[str, Any]] = data["rules"]
    return rules
