"""Play a trace against a deployment, request by request."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tierwise.errors import BadField, TierwiseError
from tierwise.result import BASES
from tierwise.serving.deployment import Deployment
from tierwise.serving.outcome import DONE, REJECTED, RUNNING, WAITING, Requests, Run, Series, Steps
from tierwise.serving.policies import load
from tierwise.serving.steps import StepPrices
from tierwise.serving.traffic.trace import Trace

Progress = Callable[[int, int, float], None]
EVENTS = 200_000  # between two looks at the keyboard


def simulate(
    trace: Trace,
    deployment: Deployment,
    prices: Sequence[StepPrices] | None = None,
    *,
    progress: Progress | None = None,
    tick: float | None = None,
    log_steps: int = 20000,
    seed: int = 0,
    exact: bool = False,
) -> Run:
    """What happens when ``deployment`` serves ``trace``.

    Args:
        prices: of the steps, one for each group of the deployment; None prices them with the cost model.
        progress: called now and then with (requests ended, requests, seconds simulated).
        tick: seconds of the narrowest bin of the series; it doubles until the run fits.
        log_steps: steps kept one by one, for a timeline.
        seed: of whatever is drawn (routing, acceptance of drafts).
        exact: take every step in full instead of repeating those in which nothing changes; same results, slower.

    Returns:
        The run; ``interrupted`` where the user stopped it.

    Raises:
        TierwiseError: settings that cannot be; an unknown policy; numba is not installed.
    """
    from tierwise.serving.loop.build import build

    if prices is None:
        from tierwise.serving.pricing import step_prices

        prices = [step_prices(deployment.model, g) for g in deployment.groups]
    _check(trace, deployment, prices)
    state = build(trace, deployment, prices, log_steps, seed, tick or 1e-3)
    state.cluster["exact"] = exact
    tokens, orders, blocks, route = _policies(deployment, state)
    from tierwise.serving.loop.compile import loop

    advance = loop(state)
    from tierwise.serving.loop.jit import quiet

    interrupted, start = False, time.perf_counter()
    with quiet():
        try:
            while not advance(state, EVENTS, tokens, orders, blocks, route):
                if progress is not None:
                    progress(int(state.cluster["finished"][0]), len(trace), float(state.cluster["time"][0]))
        except KeyboardInterrupt:
            interrupted = True
    wall = time.perf_counter() - start
    return _run(trace, deployment, prices, state, interrupted, wall)


def _policies(deployment: Deployment, state: Any) -> tuple[Any, Any, Any, Any]:
    """Compiled policies of every group, and the router; sets which of them each engine follows."""
    from tierwise.serving.loop.compile import POLICIES, by_arrival, policy

    kinds = sorted({(g.settings.scheduler, g.settings.kv) for g in deployment.groups})
    if len(kinds) > POLICIES:
        raise TierwiseError(f"the groups follow {len(kinds)} different pairs of scheduler and KV manager; at most "
                            f"{POLICIES} can be mixed")  # fmt: skip
    of = [kinds.index((g.settings.scheduler, g.settings.kv)) for g in deployment.groups]
    state.engines["policy"] = np.asarray(of)[state.engines["group"]]
    kinds += [kinds[0]] * (POLICIES - len(kinds))
    found = [(load("schedulers", a), load("kv", b)) for a, b in kinds]
    tokens = tuple(policy("tokens", s.function("tokens")) for s, _ in found)
    orders = tuple(policy("order", s.function("order") or by_arrival) for s, _ in found)
    blocks = tuple(policy("blocks", k.function("blocks")) for _, k in found)
    return tokens, orders, blocks, policy("route", load("routers", deployment.router).function("route"))


def _check(trace: Trace, deployment: Deployment, prices: Sequence[StepPrices]) -> None:
    if len(prices) != len(deployment.groups):
        raise TierwiseError(f"{len(deployment.groups)} groups of replicas but prices of {len(prices)}")
    if not deployment.groups or sum(g.count for g in deployment.groups) < 1:
        raise TierwiseError("a deployment needs at least one replica")
    for group in deployment.groups:
        settings = group.settings
        for name in ("max_seqs", "budget", "block"):
            if getattr(settings, name) < 1:
                raise BadField("settings", name, getattr(settings, name), "a whole number of at least 1")
    if len(trace) and np.any(np.diff(trace.arrival[trace.after < 0]) < 0) and not trace.closed_loop:
        raise TierwiseError("the trace's requests are not in order of arrival")


def _run(
    trace: Trace, deployment: Deployment, prices: Sequence[StepPrices], state: Any, interrupted: bool, wall: float
) -> Run:
    from tierwise.serving.loop import layout
    from tierwise.serving.loop.outcome import itl_edges, series

    cluster, q = state.cluster[0], state.requests
    end = float(cluster["end"])
    states = np.full(len(layout.STATES), WAITING)
    states[layout.RUNNING], states[layout.DONE], states[layout.REJECTED] = RUNNING, DONE, REJECTED
    requests = Requests(
        arrival=q["arrival"].copy(), scheduled=q["scheduled"].copy(), first=q["first"].copy(), last=q["last"].copy(),
        longest=q["longest"].copy(), made=q["made"].copy(), cached=q["cached"].copy(),
        preempted=q["preempted"].copy(), replica=q["replica"].copy(), state=states[q["state"]],
    )  # fmt: skip
    up = np.full(len(state.engines), end)
    groups = state.engines["group"]
    totals = {k: float(cluster[k]) for k in ("steps", "preemptions", "cached_tokens", "drafted", "accepted", "end")}
    totals |= {"swapped_bytes": float(cluster["swapped"]), "transferred_bytes": float(cluster["transferred"]),
               "recomputed_tokens": float(cluster["recomputed"]), "output_tokens": float(cluster["output_tokens"]),
               "prompt_tokens": float(cluster["prompt_tokens"]), "replica_seconds": float(up.sum())}  # fmt: skip
    devices = np.array([float(g.plan.devices) for g in deployment.groups])
    totals["device_seconds"] = float((devices[groups] * up).sum())
    totals["rent"] = float((np.array([p.rent for p in prices])[groups] * up).sum())
    idle = float((np.array([p.power_idle for p in prices])[groups] * up).sum())
    totals["energy"] = idle + float(cluster["energy"])
    k = int(cluster["logged"])
    log, times = state.log_step[:k], state.log_time[:k]
    return Run(
        deployment, trace, requests, series(state, end, up),
        Steps(log[:, 0].copy(), times[:, 0].copy(), times[:, 1].copy(), log[:, 1].copy(), log[:, 2].copy()),
        itl_edges(), state.itl.copy(), totals, interrupted, wall,
        basis=max((p.basis for p in prices), key=BASES.index),
        interval=(min(p.interval[0] for p in prices), max(p.interval[1] for p in prices)),
    )  # fmt: skip


__all__ = ["Run", "Series", "simulate"]
