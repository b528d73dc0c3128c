"""From a trace, a deployment and its prices to the arrays of the loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tierwise.serving.deployment import Deployment, Replicas
from tierwise.serving.loop import layout
from tierwise.serving.loop.layout import State
from tierwise.serving.steps import StepPrices
from tierwise.serving.traffic.trace import Trace

UNLIMITED = 2**50
_ROLES = {"both": layout.BOTH, "prefill": layout.PREFILL, "decode": layout.DECODE}


def build(
    trace: Trace, deployment: Deployment, prices: Sequence[StepPrices], log_steps: int, seed: int, width: float
) -> State:
    """The loop's state before anything has happened."""
    engines = [(g, group) for g, group in enumerate(deployment.groups) for _ in range(group.count)]
    groups, tables, graphs = _tables(prices)
    records = np.zeros(len(engines), layout.ENGINE)
    for r, (g, group) in enumerate(engines):
        _engine(records[r], r, g, group, prices[g], float(deployment.model.max_context))
    n, count = len(trace), len(engines)
    tenants = np.zeros((count, max(1, len(trace.tenants), int(trace.tenant.max(initial=-1)) + 1)), layout.TENANT)
    tenants["id"] = np.arange(tenants.shape[1])
    cluster = np.zeros(1, layout.CLUSTER)
    cluster["seed"], cluster["closed"], cluster["width"] = seed, trace.closed_loop, width
    room = n + 4 * count + 64
    state = State(
        cluster=cluster, requests=_requests(trace), engines=records, groups=groups, tenants=tenants,
        running=np.zeros((count, int(records["max_seqs"].max())), np.int64),
        queues=np.full((count, 1), -1, np.int64), tables=tables, graphs=graphs,
        event_time=np.zeros(room), event_kind=np.zeros(room, np.int64), event_item=np.zeros(room, np.int64),
        series=np.zeros((layout.BINS, len(layout.COLUMNS))), itl=np.zeros(layout.ITL_BINS, np.int64),
        log_step=np.zeros((log_steps, 3), np.int64), log_time=np.zeros((log_steps, 2)),
        scratch=np.zeros(max(count, int(records["max_seqs"].max())), np.int64),
    )  # fmt: skip
    _first_events(state, trace)
    return state


def _requests(trace: Trace) -> Any:
    out = np.zeros(len(trace), layout.REQUEST)
    out["id"] = np.arange(len(trace))
    for name in ("arrival", "prompt", "output", "tenant", "priority", "samples", "adapter", "think", "after"):
        out[name] = getattr(trace, name)
    for name in ("scheduled", "first", "last"):
        out[name] = np.nan
    for name in ("follower", "sibling", "child", "peer", "replica"):
        out[name] = -1
    later = np.flatnonzero(trace.after >= 0)
    out["arrival"][later] = np.nan
    # Those after the same request form a chain through ``sibling``, in the trace's order.
    by = later[np.argsort(trace.after[later], kind="stable")]
    same = np.flatnonzero(trace.after[by[1:]] == trace.after[by[:-1]])
    out["sibling"][by[same]] = by[same + 1]
    heads = np.setdiff1d(np.arange(len(by)), same + 1)
    out["follower"][trace.after[by[heads]]] = by[heads]
    return out


def _engine(e: Any, r: int, g: int, group: Replicas, price: StepPrices, context: float) -> None:
    settings = group.settings
    e["id"], e["group"], e["role"], e["open"] = r, g, _ROLES[group.role], 1
    e["ahead"], e["begun"] = price.ahead, -np.inf
    e["idle"] = 1
    e["next"], e["at"] = layout.IDLE, np.inf
    # Settings hold for each rank of attention data parallelism; the loop sees the engine whole.
    ranks = int(group.plan.dp)
    e["budget"], e["max_seqs"], e["block"] = settings.budget * ranks, settings.max_seqs * ranks, settings.block
    longest = settings.max_len or context
    e["max_len"] = int(longest) if np.isfinite(longest) else UNLIMITED
    # A block is so many tokens; a model whose state does not grow counts sequences instead.
    size = price.kv_token * settings.block or price.kv_fixed
    e["blocks"] = e["free"] = int(price.kv_room / size) if size > 0 else UNLIMITED
    e["fixed"] = int(np.ceil(price.kv_fixed / size)) if size > 0 else 0
    e["reserve"] = int(settings.watermark * e["blocks"])


def _tables(prices: Sequence[StepPrices]) -> tuple[Any, Any, Any]:
    groups = np.zeros(len(prices), layout.GROUP)
    pieces: list[Any] = []
    at = 0
    for g, p in zip(groups, prices, strict=True):
        for name, table in (
            ("tokens", p.tokens), ("heads", p.heads), ("seqs", p.decode_seqs), ("contexts", p.decode_context),
            ("decode", p.decode),
            ("mixing", p.decode if p.decode_mixed is None else p.decode_mixed),
            ("news", p.prefill_new), ("cacheds", p.prefill_context), ("prefill", p.prefill),
        ):  # fmt: skip
            flat = np.ascontiguousarray(table, dtype=np.float64)
            g[name] = at
            if name + "_n" in (layout.GROUP.names or ()):
                g[name + "_n"] = flat.shape[0]
            pieces.append(flat.ravel())
            at += flat.size
        g["host_step"], g["host_sequence"], g["host_chunk"], g["host_token"] = p.host
        for name, value in (
            ("mixed", p.mixed_graphs), ("ahead", p.ahead), ("launch", p.launch),
            ("request", p.request), ("kv_token", p.kv_token),
            ("swap", p.swap), ("transfer", p.transfer), ("latency", p.transfer_latency), ("disk", p.disk),
            ("idle_power", p.power_idle), ("rated_power", p.power_rated),
        ):  # fmt: skip
            g[name] = value
    sizes = [np.asarray(p.graph_sizes, np.int64) for p in prices]
    groups["graphs_n"] = [len(x) for x in sizes]
    groups["graphs"] = np.cumsum([0, *(len(x) for x in sizes[:-1])])
    return groups, np.concatenate(pieces), np.concatenate([*sizes, np.zeros(1, np.int64)])


def _first_events(state: State, trace: Trace) -> None:
    """A closed loop starts with as many requests as the client keeps in flight."""
    if not trace.closed_loop:
        return
    first = np.flatnonzero(trace.after < 0)[: trace.closed_loop]
    k = len(first)
    state.event_item[:k] = first
    state.cluster["events"] = k
    state.cluster["arrived"] = int(first[-1]) + 1 if k else 0
