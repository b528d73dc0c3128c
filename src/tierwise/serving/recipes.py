"""What a recorded row leaves out about its run, from the recipes its benchmark published (``recipes.yaml``)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tierwise.serving.rows import Row
from tierwise.serving.steady import Client
from tierwise.serving.work import Array

_INFERENCEX = re.compile(r"config_id=|(?<!\d)\d{4}-\d\d-\d\d\.csv|(?<!auto-)gap-analysis\.csv")
_DATE = re.compile(r"measured=(\d{4}-\d\d-\d\d)")
_DEFAULTS: Mapping[str, float] = {
    "budget": 8192.0, "budget_prompts": 0.0, "memory": 0.9, "poll": 1.0, "waves": 10.0, "spread": 0.0, "shorten": 1.0,
    "cold": 0.0, "slots": 1e9, "draft": 0.0, "either": 0.0, "timeout": 0.0, "whole": 0.0,
}  # fmt: skip


@dataclass(frozen=True)
class Conditions:
    """How each row was run, shape (n,).

    Attributes:
        client: see :class:`Client`.
        shorten: mean tokens over nominal ones; ``memory``: share of the device the engine takes; ``slots``: sequences
            an engine runs at once at most; ``draft``: draft tokens a step; ``either``: 1 where it may as well be none.
        whole: 1 where experts are divided over all devices of an engine, 2 where attention runs on a rank each besides.
        kind: whose client, ``inferencex`` or ``other``; ``build``: engine and version, or month where none is given.
    """

    client: Client
    shorten: Array
    memory: Array
    slots: Array
    draft: Array
    either: Array
    whole: Array
    kind: NDArray[np.str_]
    build: NDArray[np.str_]


def conditions(rows: Sequence[Row]) -> Conditions:
    """The settings of every row's run: its own where it states them, else its benchmark's recipe."""
    found = [_settings(r) for r in rows]

    def column(name: str) -> Array:
        return np.asarray([f[name] for f in found], dtype=float)

    isl = np.asarray([r.isl for r in rows], dtype=float)
    stated = [r.draft is not None for r in rows]
    draft = np.where(stated, [r.draft or 0.0 for r in rows], column("draft"))
    budget = np.maximum(column("budget"), column("budget_prompts") * isl)
    client = Client(budget, column("waves"), column("spread"), column("poll") / 2.0, column("cold"),
                    column("timeout"))  # fmt: skip
    kind = np.asarray(["inferencex" if _INFERENCEX.search(r.source) else "other" for r in rows], dtype=np.str_)
    build = np.asarray([f"{r.engine}/{r.version or _date(r)[:7] or '?'}" for r in rows], dtype=np.str_)
    either = np.where(stated, 0.0, column("either"))
    shorten, memory, slots, whole = (column(name) for name in ("shorten", "memory", "slots", "whole"))
    return Conditions(client, shorten, memory, slots, draft, either, whole, kind, build)


def _settings(row: Row) -> dict[str, float]:
    out = dict(_DEFAULTS)
    for rule in _rules():
        # A rule may look at what earlier ones have set.
        if all(_TESTS[name](row, value, out) for name, value in rule.items() if name != "set"):
            out.update({name: float(value) for name, value in rule["set"].items()})
    return out


def _date(row: Row) -> str:
    match = _DATE.search(row.source)
    return match[1] if match else ""


_TESTS: Mapping[str, Any] = {
    "source": lambda r, v, s: bool(_INFERENCEX.search(r.source)) == (v == "inferencex"),
    "engine": lambda r, v, s: r.engine == v,
    "system": lambda r, v, s: r.system.lower().startswith(v),
    "model": lambda r, v, s: re.search(v, r.model.lower()) is not None,
    "version": lambda r, v, s: re.fullmatch(v, r.version) is not None,
    "dense": lambda r, v, s: r.dense == v,
    "tp": lambda r, v, s: r.pool.tp == v,
    "under": lambda r, v, s: r.pool.tp < v,
    "ep": lambda r, v, s: r.pool.ep == v,
    "apart": lambda r, v, s: (r.prefill is not None) == bool(v),
    "ranks": lambda r, v, s: r.pool.dp >= v,
    "isl": lambda r, v, s: r.isl == v,
    "osl": lambda r, v, s: r.osl == v,
    "drafted": lambda r, v, s: s["draft"] >= v,
    "flight": lambda r, v, s: r.concurrency >= v,
    "from": lambda r, v, s: _date(r) >= str(v),
    "before": lambda r, v, s: "" < _date(r) < str(v),
}


@cache
def _rules() -> list[dict[str, Any]]:
    import yaml

    data = yaml.safe_load(Path(__file__).with_name("recipes.yaml").read_text())
    rules: list[dict[str, Any]] = data["rules"]
    return rules
