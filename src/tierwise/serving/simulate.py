"""Play a trace against a deployment, request by request."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tierwise.core.errors import BadField, TierwiseError
from tierwise.result import BASES
from tierwise.serving.deployment import Deployment
from tierwise.serving.outcome import DONE, REJECTED, RUNNING, WAITING, Requests, Series, SimulatedRun, Steps
from tierwise.serving.policies import Policy, load
from tierwise.serving.step_times import text_layers
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
) -> SimulatedRun:
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
    from tierwise.serving.jit import quiet  # isort: skip  # first: it says what to install without Numba
    from tierwise.serving.loop.arrays import handle
    from tierwise.serving.loop.build import build
    from tierwise.serving.loop.compile import loop

    if prices is None:
        from tierwise.serving.pricing import step_prices

        prices = [step_prices(deployment.model, g) for g in deployment.groups]
    _check(trace, deployment, prices)
    policies = [(load("schedulers", g.settings.scheduler), load("kv", g.settings.kv)) for g in deployment.groups]
    state = build(trace, deployment, prices, policies, log_steps, seed, tick or 1e-3)
    state.cluster["exact"] = exact
    state, functions = _policies(deployment, prices, policies, state)
    _first_events(state, trace, deployment)
    advance, where = loop(), handle(state)
    interrupted, start = False, time.perf_counter()
    with quiet():
        try:
            while not advance(where, EVENTS, *functions):
                if progress is not None:
                    progress(int(state.cluster["finished"][0]), len(trace), float(state.cluster["time"][0]))
        except KeyboardInterrupt:
            interrupted = True
        advance(where, 0, *functions)
    wall = time.perf_counter() - start
    return _run(trace, deployment, prices, state, interrupted, wall)


def _policies(
    deployment: Deployment, prices: Sequence[StepPrices], policies: Sequence[tuple[Policy, Policy]], state: Any
) -> tuple[Any, Any]:
    """The policies compiled: (state that knows which engine follows which, arguments of the loop)."""
    from tierwise.serving.loop.compile import POLICIES, all_of_them, by_arrival, policy, rhythm

    kinds = list(dict.fromkeys(policies))
    if len(kinds) > POLICIES:
        raise TierwiseError(f"the groups follow {len(kinds)} different pairs of scheduler and KV manager; at most "
                            f"{POLICIES} can be mixed")  # fmt: skip
    state.engines["policy"] = np.array([kinds.index(p) for p in policies])[state.engines["group"]]
    kinds += [kinds[0]] * (POLICIES - len(kinds))
    tokens = tuple(policy("tokens", a) for a, _ in kinds)
    orders = tuple(policy("order", a) or policy("order", by_arrival) for a, _ in kinds)
    blocks = tuple(policy("blocks", b) for _, b in kinds)
    router = load("routers", deployment.router)
    state.cluster["match"] = router.flag("PREFIX")
    scaler = load("autoscalers", deployment.autoscaler) if deployment.autoscaler else None
    if scaler is not None:
        state.cluster["interval"] = float(getattr(scaler.module, "INTERVAL", 10.0))
        state.engines["open"][1:], state.engines["since"][1:] = 0, np.nan
    if len(state.requests):
        plain = state.requests[:1].copy()
        plain["samples"] = 1
        for e in state.engines:
            g = int(e["group"])
            e["page"] = _page(deployment, prices[g], g, policies[g][1])
            e["grow"], e["grown"] = rhythm(blocks[e["policy"]], e, plain[0])
    state = state._replace(growth=np.zeros((len(state.engines), max(1, int(state.engines["grow"].max()))), np.int64))
    replicas = policy("replicas", scaler) if scaler is not None else policy("replicas", all_of_them)
    return state, (tokens, orders, blocks, policy("route", router), replicas)


def _page(deployment: Deployment, prices: StepPrices, group: int, kv: Policy) -> int:
    """Blocks of one page of the device's memory in each of a sequence's tensors, keys and values of every layer; 1
    where the KV manager knows no pages."""
    size = float(getattr(kv.module, "PAGE_BYTES", 0.0))
    if not size or not prices.kv_token:
        return 1
    g = deployment.groups[group]
    tokens = size * 2.0 * text_layers(deployment.model) * float(g.plan.tp) / prices.kv_token
    return max(1, int(np.ceil(tokens / g.settings.block)))


def _first_events(state: Any, trace: Trace, deployment: Deployment) -> None:
    """A closed loop starts with as many requests as the client keeps in flight; failures and looks are known."""
    from tierwise.serving.loop import layout

    events = [(0.0, layout.SCALE, 0)] if deployment.autoscaler else []
    for at, replica, down in deployment.failures:
        events += [(at, layout.DOWN, replica), (at + down, layout.UP, replica)]
    if trace.closed_loop:
        first = np.flatnonzero(trace.after < 0)[: trace.closed_loop]
        events += [(0.0, layout.ARRIVAL, int(i)) for i in first]
        state.cluster["arrived"] = int(first[-1]) + 1 if len(first) else 0
    for k, (at, kind, item) in enumerate(sorted(events)):
        state.event_time[k], state.event_kind[k], state.event_item[k] = at, kind, item
    state.cluster["events"] = len(events)


def _check(trace: Trace, deployment: Deployment, prices: Sequence[StepPrices]) -> None:
    if len(prices) != len(deployment.groups):
        raise TierwiseError(f"{len(deployment.groups)} groups of replicas but prices of {len(prices)}")
    if not deployment.groups or sum(g.count for g in deployment.groups) < 1:
        raise TierwiseError("a deployment needs at least one replica")
    for group, price in zip(deployment.groups, prices, strict=True):
        settings = group.settings
        if price.verifying is not None and settings.speculation.length > len(price.verifying):
            raise TierwiseError(f"steps are priced with at most {len(price.verifying)} drafts, and "
                                f"{settings.speculation.length} are to be verified")  # fmt: skip
        for name in ("max_seqs", "budget", "block"):
            if getattr(settings, name) < 1:
                raise BadField("settings", name, getattr(settings, name), "a whole number of at least 1")
    if len(trace) and np.any(np.diff(trace.arrival[trace.after < 0]) < 0) and not trace.closed_loop:
        raise TierwiseError("the trace's requests are not in order of arrival")


def _run(
    trace: Trace, deployment: Deployment, prices: Sequence[StepPrices], state: Any, interrupted: bool, wall: float
) -> SimulatedRun:
    from tierwise.serving.loop import layout
    from tierwise.serving.loop.outcome import audit, series

    cluster, q = state.cluster[0], state.requests
    end = float(cluster["end"])
    states = np.full(len(layout.STATES), WAITING)
    states[layout.RUNNING], states[layout.DONE], states[layout.REJECTED] = RUNNING, DONE, REJECTED
    requests = Requests(
        arrival=q["arrival"].copy(), scheduled=q["scheduled"].copy(), first=q["first"].copy(), last=q["last"].copy(),
        longest=q["longest"].copy(), made=q["made"].copy(), cached=q["cached"].copy(),
        preempted=q["preempted"].copy(), replica=q["replica"].copy(), state=states[q["state"]],
    )  # fmt: skip
    up, groups = state.engines["up"], state.engines["group"]
    totals = {k: float(cluster[k]) for k in ("steps", "preemptions", "cached_tokens", "drafted", "accepted", "end")}
    totals |= {"swapped_bytes": float(cluster["swapped"]), "transferred_bytes": float(cluster["transferred"]),
               "recomputed_tokens": float(cluster["recomputed"]), "output_tokens": float(cluster["output_tokens"]),
               "prompt_tokens": float(cluster["prompt_tokens"]), "replica_seconds": float(up.sum())}  # fmt: skip
    totals |= audit(state)
    devices = np.array([float(g.plan.devices) for g in deployment.groups])
    totals["device_seconds"] = float((devices[groups] * up).sum())
    rents = np.array([p.rent for p in prices])
    # Of devices that are rented together all are paid for, busy or not.
    share = deployment.rent / max(float(np.sum(rents * [g.count for g in deployment.groups])), 1e-300)
    totals["rent"] = float((rents[groups] * up).sum()) * share
    idle = float((np.array([p.power_idle for p in prices])[groups] * up).sum())
    totals["energy"] = idle + float(cluster["energy"])
    k = int(cluster["logged"])
    log, times = state.log_step[:k], state.log_time[:k]
    return SimulatedRun(
        deployment, trace, requests, series(state, end),
        Steps(log[:, 0].copy(), times[:, 0].copy(), times[:, 1].copy(), log[:, 1].copy(), log[:, 2].copy()),
        state.edges.copy(), state.itl.copy(), totals, interrupted, wall,
        basis=max((p.basis for p in prices), key=BASES.index),
        interval=(min(p.interval[0] for p in prices), max(p.interval[1] for p in prices)),
    )  # fmt: skip


__all__ = ["Series", "SimulatedRun", "simulate"]
