"""The closed loop in its steady state: N requests in flight, each replaced when it ends.

One decode step of ``D`` sequences takes ``d(D)``. While a request makes its tokens, every other one in flight is
replaced once, so steps also carry prefill: ``D a / osl`` prompts a step when a step yields ``a`` tokens a sequence.
What a request then sees between two tokens is the mean step; what it waits for its first token is the rest of
the step it arrives in, a queue where prompts come faster than they are served, and its own prefill. Both times
decide how many sequences decode, and the loop is iterated to its fixed point. All arrays have shape (n,) unless said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tierwise.serving.work import CLASSES, PROMPTS, SHARES, Array, Load, Work

Coefficients = Mapping[str, Array]

# What multiplies or adds to the prices, and where each starts. Times in seconds.
START: Mapping[str, float] = {
    **{f"decode.{c}": 1.0 for c in CLASSES},
    **{f"prefill.{c}": 1.0 for c in CLASSES},
    "host.step": 1.0e-3,  # scheduling, sampling and launching one step
    "host.kernel": 4.0e-6,  # the gap after a kernel beyond the dispatch already priced
    "host.expert": 3.0e-5,  # routing, sorting and casting around the experts of one layer
    "host.sequence": 5.0e-6,  # bookkeeping of one sequence of a rank in one step
    "host.prefill": 2.0e-3,  # one more pass with prompts in it
    "host.launch": 1.0e-5,  # launching a kernel of a pass with prompts, for which there is no recorded graph
    "host.request": 2.0e-2,  # tokenizing, transport, first answer
    "host.prompt": 1.0e-6,  # the same per prompt token
    "host.poll": 1.0,  # steps before the scheduler takes a request, over those between its looks
    "host.cold": 0.1,  # seconds of compilation in the first wave, spread over all requests
    "host.lost": 0.05,  # slots of the batch that stay empty, so that a request waits for another's end
    "rank.wait": 0.5,  # share of the longest wait of attention-parallel ranks for each other's prompts
    "rank.gather": 0.5,  # how far such ranks take their prompts together (0: each when it comes)
    "routing": 0.85,  # tokens choose experts as alike as tokens**routing independent ones
    "imbalance": 0.5,  # weight of the fullest expert rank's excess
    "mix": 0.5,  # share of a decode step a prefill pass in the same step hides
    "bunch": 0.3,  # prompts that arrive together, as a share of those that could
    "burst": 1.0,  # weight of the first wave, in which all requests arrive at once
    "queue": 1.0,  # weight of waiting behind other prompts
    "apart.request": 5.0e-2,  # disaggregated: routing a request and moving its KV to the decoding engine
    "apart.decode": 1.0,  # disaggregated: over the same decode step in an engine that also prefills
    "apart.prefill": 1.0,  # the same for a prefill pass
    "accept": 2.0,  # odds that a draft token is right
    "draft": 1.0,  # a draft token's time over that of one layer and the head
}


@dataclass(frozen=True)
class Client:
    """How the requests are made, shape (n,): ``budget`` tokens a prefill pass takes, ``waves`` requests per slot.

    ``poll``: mean steps to the next look at the queue. ``timeout``: most steps that attention-parallel ranks wait until
    each has a prompt. ``cold``: 1 where the first wave also compiles kernels.
    ``spread``: 1 where lengths differ from request to request, so that arrivals spread out; 0 where all are equal.
    """

    budget: Array
    waves: Array
    spread: Array
    poll: Array
    cold: Array
    timeout: Array


@dataclass(frozen=True)
class Steady:
    """Seconds of the steady state, shape (n,), and its parts for explanation."""

    ttft: Array
    tpot: Array
    parts: Mapping[str, Array]


def steady(
    load: Load, work: Work, client: Client, k: Coefficients, rounds: int = 12, start: Array | None = None
) -> Steady:
    """TTFT and TPOT of every deployment whose engines both prefill and decode.

    Args:
        k: a value for every name of :data:`START`, shape (n,) or scalar.
        rounds: of the fixed point, damped by half; ``start``: sequences that decode, where it begins (all of them
            unless given).
    """
    ranks = load.flight / load.dp
    accepted = _accepted(k["accept"], load.draft)
    prefill = _prefill(work, k)
    most = np.maximum(np.minimum(client.budget / load.isl, ranks), 1.0)
    lumps = most ** np.minimum(k["bunch"] * (1.0 - 0.7 * client.spread), 1.0)
    full = _at_prompts(prefill, most)
    first = k["burst"] * full * np.maximum(ranks / most - 1.0, 0.0) / 2.0 / client.waves
    request = _request(load, client, k)
    limit = np.maximum(np.minimum(ranks, work.room), 1.0)
    company = 1.0 - 1.0 / np.maximum(load.flight, 1.0)  # a request alone finds no step running and no slot taken
    looks = k["host.poll"] * client.poll + k["rank.wait"] * client.timeout
    active = limit if start is None else start
    for _ in range(rounds):
        step = _step(load, work, k, active)
        arrivals = active * load.dp * accepted / load.osl
        # Whatever came since the last look is taken together.
        seen = arrivals * np.maximum(2.0 * client.poll, 1.0)
        each = np.maximum(seen / -np.expm1(-seen) / load.dp, lumps)
        each = np.minimum(np.maximum(each, 1.0), most)
        # Ranks that step together share a prefill pass where the engine gathers a prompt for each; else any one's
        # prompt holds up all.
        gathered = arrivals / (load.dp * each)
        scattered = np.where(load.dp > 1, np.maximum(-np.expm1(-arrivals / each), gathered), gathered)
        rate = gathered * (scattered / gathered) ** (1.0 - np.minimum(k["rank.gather"], 1.0))
        one = _at_prompts(prefill, each)
        # A pass that carries prompts besides the decoding sequences saves part of the weights' second reading.
        extra = np.maximum(one - np.minimum(k["mix"], 1.0) * np.minimum(one, step), 0.05 * one)
        mean = step + rate * extra
        tpot = mean / accepted
        busy = np.minimum(rate, 1.0)
        # The step a request arrives in is likelier a long one.
        second = (1.0 - busy) * step**2 + busy * (step + extra) ** 2
        residual = company * second / (2.0 * ((1.0 - busy) * step + busy * (step + extra)))
        share = np.minimum(rate * extra / mean, 0.98)
        waiting = k["queue"] * share**2 / (1.0 - share + 1.0 / np.maximum(ranks, 1.0)) * extra / 2.0
        lost = company * k["host.lost"] * load.osl * tpot / ranks
        ttft = request + residual + step + extra + waiting + first + looks * mean + lost
        wanted = ranks * load.osl * tpot / (ttft + load.osl * tpot)
        active = np.maximum(0.5 * active + 0.5 * np.minimum(wanted, limit), 0.5)
    # Requests beyond the room for their KV wait for a whole other one to end.
    crowd = np.maximum(ranks / limit - 1.0, 0.0) * load.osl * tpot
    ttft = ttft + np.maximum(crowd - (ttft - request), 0.0)
    parts = {"request": request, "rest of a step": residual, "look": looks * mean, "own pass": step + extra,
             "queue": waiting, "first wave": first, "lost slot": lost, "step": step, "prefill share": share,
             "active": active, "together": each}  # fmt: skip
    return Steady(ttft, tpot, parts)


def _request(load: Load, client: Client, k: Coefficients) -> Array:
    compiling = k["host.cold"] * client.cold * (load.flight * load.isl >= client.budget)
    return k["host.request"] + k["host.prompt"] * load.isl + compiling


def _prefill(work: Work, k: Coefficients) -> Array:
    """Seconds of a pass over PROMPTS prompts, shape (points, n).

    Launching runs ahead of the device: the slower of both shows, with little of the other where they are close.
    """
    busy = _weighted(work.prefill, k, "prefill")
    launch = k["host.launch"] * work.kernels
    return np.asarray(np.hypot(busy, launch) + k["host.prefill"])


def _step(load: Load, work: Work, k: Coefficients, active: Array) -> Array:
    """Seconds of one step of ``active`` sequences a rank, its drafting included."""
    ranks = load.flight / load.dp
    rest = _weighted(work.decode, {**k, "decode.moe": 0.0 * ranks}, "decode")
    experts = k["decode.moe"] * work.decode[1] * (1.0 + k["imbalance"] * work.spread)
    fixed = k["host.step"] + k["host.kernel"] * work.kernels + k["host.expert"] * work.mixtures
    drafting = (k["host.kernel"] * work.kernels + rest[-1] + experts[-1]) / work.layers
    tokens = np.maximum(active * load.dp * (1.0 + load.draft), 1.0)
    alike = active / tokens * tokens ** np.minimum(k["routing"], 1.0)
    step = np.maximum(_at(rest, active / ranks) + _at(experts, alike / ranks), _at(work.launch, active / ranks))
    return np.asarray(step + fixed + load.draft * k["draft"] * drafting + k["host.sequence"] * active)


def _accepted(odds: Array, draft: Array) -> Array:
    """Tokens one step yields: the drafts up to the first wrong one, and the model's own."""
    p = odds / (1.0 + odds)
    return np.asarray((1.0 - p ** (draft + 1.0)) / (1.0 - p))


def _weighted(seconds: Array, k: Coefficients, phase: str) -> Array:
    out = np.zeros(seconds.shape[1:])
    for i, c in enumerate(CLASSES):
        out = out + k[f"{phase}.{c}"] * seconds[i]
    return out


def _at(values: Array, x: Array) -> Array:
    """Values given at the decreasing SHARES (points, n), linearly at ``x``."""
    out = values[-1] * np.ones_like(x)
    # From the lowest span up: each replaces what the one below says beyond its end.
    for i in reversed(range(len(SHARES) - 1)):
        high, low = SHARES[i], SHARES[i + 1]
        part = values[i + 1] + (values[i] - values[i + 1]) * (x - low) / (high - low)
        out = np.where(x >= low, part, out)
    return np.asarray(out)


def _at_prompts(values: Array, prompts: Array) -> Array:
    """Seconds of a pass over ``prompts`` prompts: linear between the priced numbers, proportional beyond."""
    out = values[-1] * prompts / PROMPTS[-1]
    for i in range(len(PROMPTS) - 2, -1, -1):
        low, high = PROMPTS[i], PROMPTS[i + 1]
        part = values[i] + (values[i + 1] - values[i]) * (prompts - low) / (high - low)
        out = np.where(prompts <= high, part, out)
    return np.asarray(out)


__all__ = ["START", "Client", "Coefficients", "Steady", "steady"]
