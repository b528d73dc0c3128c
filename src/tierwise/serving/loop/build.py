"""From a trace, a deployment and its prices to the arrays of the loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tierwise.serving.deployment import Deployment, Replicas
from tierwise.serving.loop import layout
from tierwise.serving.loop.layout import LoopState
from tierwise.serving.loop.tables import tables
from tierwise.serving.policies import Policy
from tierwise.serving.steps import StepPrices
from tierwise.serving.traffic.trace import Trace

UNLIMITED = 2**50
_ROLES = {"both": layout.BOTH, "prefill": layout.PREFILL, "decode": layout.DECODE}


def build(
    trace: Trace, deployment: Deployment, prices: Sequence[StepPrices], policies: Sequence[tuple[Policy, Policy]],
    log_steps: int, seed: int, width: float,
) -> LoopState:  # fmt: skip
    """The loop's state before anything has happened. ``policies``: scheduler and KV manager of each group."""
    n, owners = len(trace), [g for g, group in enumerate(deployment.groups) for _ in range(group.count)]
    count = len(owners)
    identities, blocks = np.unique(trace.blocks, return_inverse=True)
    cached = len(identities) > 0 and any(g.settings.prefix_cache for g in deployment.groups)
    identities, blocks = (identities, blocks) if cached else (identities[:0], blocks[:0])
    starts = trace.block_start if cached else np.zeros(n + 1, np.int64)
    units = max(len(identities), 1)
    engines = np.zeros(count, layout.ENGINE)
    for r, g in enumerate(owners):
        group = deployment.groups[g]
        _engine(engines[r], r, g, group, prices[g], policies[g], float(deployment.model.max_context))
        _cache(engines[r], r, group, prices[g], policies[g][1], trace.block_size if cached else 0, deployment.pooled)
    tenants = np.zeros((count, max(1, len(trace.tenants), int(trace.tenant.max(initial=-1)) + 1)), layout.TENANT)
    tenants["id"] = np.arange(tenants.shape[1])
    flights = np.zeros((count, int(engines["lanes"].max())), layout.FLIGHT)
    flights["at"] = np.inf
    ranks = np.zeros((count, int(engines["ranks"].max())), layout.RANK)
    groups, table, graphs = tables(deployment, prices)
    tiers = 3 if (engines["host_units"] + engines["disk_units"]).any() else 1
    adapters = int(trace.adapter.max(initial=-1)) + 1
    most, room = int(engines["max_seqs"].max()), n + 4 * count + 2 * len(deployment.failures) + 64
    return LoopState(
        cluster=_cluster(trace, deployment, seed, width), requests=_requests(trace), engines=engines, groups=groups,
        flights=flights, ranks=ranks, tenants=tenants, running=np.zeros((count, most), np.int64),
        queues=np.full((count, tenants.shape[1] if engines["by_tenant"].any() else 1), -1, np.int64),
        tables=table, graphs=graphs,
        event_time=np.zeros(room), event_kind=np.zeros(room, np.int64), event_item=np.zeros(room, np.int64),
        blocks=np.ascontiguousarray(blocks.ravel(), dtype=np.int64),
        block_start=np.ascontiguousarray(starts, dtype=np.int64),
        users=np.full((count, units), -1, np.int32), spare_ends=np.full((count, tiers, 2), -1, np.int64),
        spare_links=np.full((count, tiers, 2, units), -1, np.int32),
        below=np.zeros((count, units if tiers > 1 else 1), np.int8),
        adapter_users=np.zeros((count, adapters), np.int64), adapter_used=np.full((count, adapters), -1.0),
        growth=np.zeros((count, 1), np.int64),
        series=np.zeros((layout.BINS, len(layout.COLUMNS))), edges=itl_edges(),
        itl=np.zeros(layout.ITL_BINS, np.int64),
        log_step=np.zeros((log_steps, 3), np.int64), log_time=np.zeros((log_steps, 2)),
        scratch=np.zeros(most, np.int64), among=np.zeros(count, np.int64),
    )  # fmt: skip


def itl_edges() -> Any:
    """Edges of the histogram of times between tokens, in seconds; the first also holds all that is shorter."""
    edges = layout.ITL_LOW * 10.0 ** (np.arange(layout.ITL_BINS + 1) * (layout.ITL_DECADES / layout.ITL_BINS))
    return edges


def _cluster(trace: Trace, deployment: Deployment, seed: int, width: float) -> Any:
    out = np.zeros(1, layout.CLUSTER)
    out["seed"], out["closed"], out["width"], out["limbo"] = seed, trace.closed_loop, width, -1
    out["startup"] = deployment.startup
    roles = any(g.role != "both" for g in deployment.groups)
    out["linked"] = bool(trace.closed_loop) or roles or bool((trace.after >= 0).any())
    return out


def _requests(trace: Trace) -> Any:
    out = np.zeros(len(trace), layout.REQUEST)
    out["id"] = np.arange(len(trace))
    for name in ("arrival", "prompt", "output", "tenant", "priority", "samples", "adapter", "think", "after"):
        out[name] = getattr(trace, name)
    for name in ("scheduled", "first", "last"):
        out[name] = np.nan
    for name in ("follower", "sibling", "child", "peer", "replica", "source"):
        out[name] = -1
    later = np.flatnonzero(trace.after >= 0)
    out["arrival"][later] = np.nan
    if trace.closed_loop:
        out["arrival"] = np.nan
    # Those after the same request form a chain through ``sibling``, in the trace's order.
    by = later[np.argsort(trace.after[later], kind="stable")]
    same = np.flatnonzero(trace.after[by[1:]] == trace.after[by[:-1]])
    out["sibling"][by[same]] = by[same + 1]
    heads = np.setdiff1d(np.arange(len(by)), same + 1)
    out["follower"][trace.after[by[heads]]] = by[heads]
    return out


def _engine(
    e: Any, r: int, g: int, group: Replicas, price: StepPrices, policies: tuple[Policy, Policy], context: float
) -> None:
    s, scheduler = group.settings, policies[0]
    # Settings hold for each rank of data-parallel attention, the engine is all of them.
    ranks = e["ranks"] = int(group.plan.dp)
    e["id"], e["group"], e["role"], e["open"], e["since"] = r, g, _ROLES[group.role], 1, 0.0
    e["next"], e["at"], e["idle"], e["begun"] = layout.IDLE, np.inf, 1, -np.inf
    e["budget"], e["max_seqs"], e["block"] = s.budget * ranks, s.max_seqs * ranks, s.block
    longest = s.max_len or context
    e["max_len"] = int(longest) if np.isfinite(longest) else UNLIMITED
    # A block is so many tokens; a model whose state does not grow counts sequences instead.
    size = price.kv_token * s.block or price.kv_fixed
    e["blocks"] = e["free"] = int(price.kv_room / size) if size > 0 else UNLIMITED
    e["fixed"] = int(np.ceil(price.kv_fixed / size)) if size > 0 else 0
    e["reserve"] = int(s.watermark * e["blocks"])
    e["swaps"], e["slots"] = s.swap, s.adapters
    e["hold"], e["waiting_first"] = scheduler.flag("HOLD"), scheduler.flag("WAITING_FIRST")
    e["by_tenant"] = scheduler.flag("BY_TENANT")
    e["keyed"] = scheduler.function("order") is not None and not e["by_tenant"]
    if scheduler.flag("UNLIMITED"):
        e["budget"] = UNLIMITED
    e["stages"], e["stages_prompt"] = (price.stages / pace for pace in price.pace)
    e["follow"] = price.follow if price.stages > 1 else 0
    e["lanes"] = 2 if s.prefill_share > 0 else price.stages
    e["partition"], e["gate"] = s.prefill_share, np.inf
    e["ahead"] = price.ahead if e["lanes"] == 1 else 0
    draft = s.speculation
    e["speculate"], e["tree"] = draft.length, max(draft.tree, draft.length)
    e["adaptive"], e["accept"], e["cost"] = draft.adaptive, draft.accept, draft.cost


def _cache(e: Any, r: int, group: Replicas, price: StepPrices, kv: Policy, unit: int, pooled: bool) -> None:
    s = group.settings
    if not unit or not s.prefix_cache or not kv.flag("SHARES"):
        return
    e["unit_tokens"], e["unit"] = unit, -(-unit // s.block)
    size = unit * price.kv_token
    e["pool"], e["pooled"] = (0 if pooled else r), pooled
    if size > 0:
        e["host_units"], e["disk_units"] = int(s.host_cache / size), int(s.disk_cache / size)
