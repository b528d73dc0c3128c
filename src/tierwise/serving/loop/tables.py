"""Prices as one flat array, and where in it each group's tables begin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tierwise.core.errors import TierwiseError
from tierwise.models.lora import one_adapter
from tierwise.models.types import Model
from tierwise.serving.deployment import Deployment, Replicas
from tierwise.serving.loop import layout
from tierwise.serving.reordered import LEVELS
from tierwise.serving.steps import StepPrices


def tables(deployment: Deployment, prices: Sequence[StepPrices]) -> tuple[Any, Any, Any]:
    """(g,) GROUP, the tables (flat floats), and the batch sizes of recorded graphs (flat integers)."""
    groups = np.zeros(len(prices), layout.GROUP)
    pieces: list[Any] = []
    at = 0
    for g, p, group in zip(groups, prices, deployment.groups, strict=True):
        mixing = p.decode if p.decode_mixed is None else p.decode_mixed
        other: list[tuple[str, Any]] = [] if p.experts is None else [("experts", p.experts)]
        if p.verifying is not None:
            other.append(("verifying", p.verifying))
        if p.reordered is not None:
            o = p.reordered
            other += [("in_line", o.decode.ravel()), ("yielding", o.heads), ("alone", o.alone),
                      ("work", o.work.ravel()), ("levels", LEVELS),
                      ("rows", o.rows), ("covering", o.covering.ravel())]  # fmt: skip
            g["work_n"] = len(o.work)
            g["reordered"], g["draws"], g["active"], g["covering_row"] = 1, o.draws, o.active, o.covering.shape[1]
            g["once"], g["once_compute"], g["once_memory"] = o.once
        for name, table in (
            ("tokens", p.tokens), ("heads", p.heads), ("seqs", p.decode_seqs), ("contexts", p.decode_context),
            ("decode", p.decode), ("mixing", mixing), ("news", p.prefill_new), ("cacheds", p.prefill_context),
            ("prefill", p.prefill), *other,
        ):  # fmt: skip
            flat = np.ascontiguousarray(table, dtype=np.float64)
            if not np.isfinite(flat).all():
                raise TierwiseError(f"{deployment.model.name} on {group.machine.name}: no finite price of a step "
                                    f"({name}); the loop cannot look it up")  # fmt: skip
            assert flat.ndim == 1 or flat.shape[-1] == layout.WIDTH, name
            g[name] = at
            if name != "work" and name + "_n" in (layout.GROUP.names or ()):
                g[name + "_n"] = flat.shape[0]
            pieces.append(flat.ravel())
            at += flat.size
        g["host_step"], g["host_sequence"], g["host_chunk"], g["host_token"] = p.host
        for name, value in (
            ("mixed", p.mixed_graphs), ("ahead", p.ahead), ("launch", p.launch), ("joined", p.joined),
            ("request", p.request), ("gap_sequence", p.gap_sequence),
            ("kv_token", p.kv_token), ("kv_fixed", p.kv_fixed), ("swap", p.swap), ("transfer", p.transfer),
            ("latency", p.transfer_latency), ("disk", p.disk), ("power", p.power_left),
            ("adapter", _adapter(deployment.model, group)),
        ):  # fmt: skip
            g[name] = value
    sizes = [np.asarray(p.graph_sizes, np.int64) for p in prices]
    groups["graphs_n"] = [len(x) for x in sizes]
    groups["graphs"] = np.cumsum([0, *(len(x) for x in sizes[:-1])])
    return groups, np.concatenate(pieces), np.concatenate([*sizes, np.zeros(1, np.int64)])


def _adapter(model: Model, group: Replicas) -> float:
    """Bytes of one adapter."""
    s = group.settings
    return float(one_adapter(model, replace(group.plan, lora_rank=float(s.rank), lora_modules=s.modules)))
