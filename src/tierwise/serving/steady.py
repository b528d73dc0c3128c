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

from tierwise.serving.constants import CONSTANTS
from tierwise.serving.step_times import PROMPTS, SHARES, Array, ClosedLoopPoint, StepTimes

Coefficients = Mapping[str, Array]

# What of the form is neither derived nor fitted; constants.yaml says of each why.
LOST_TO_SPREAD, LEAST_EXTRA = CONSTANTS["prefill.equal_lengths"], CONSTANTS["prefill.least_extra"]
FULLEST, LEAST_DECODING = CONSTANTS["queue.fullest"], CONSTANTS["decoding.least"]
DAMPING = CONSTANTS["fixed_point.damping"]

# What multiplies or adds to the prices, and where each starts. Times in seconds. The first six correct steps whoever
# prices them (:mod:`tierwise.steps.corrections`).
START: Mapping[str, float] = {
    "ops": 1.0,  # factor on all that the device computes and sends: prices were measured on it alone
    "gap": 1.0e-3,  # scheduling, sampling and launching one step
    "gap_sequence": 5.0e-6,  # sampling and bookkeeping of one sequence of a rank in one step
    "gap_expert": 3.0e-5,  # routing, sorting and casting around the experts of one layer
    "launch": 1.0e-5,  # launching a kernel of a pass with prompts, for which there is no recorded graph
    "request": 2.0e-2,  # tokenizing, transport, first answer
    "client.request": 1.0,  # over that, what the client that measured adds
    "host.prompt": 1.0e-6,  # the same per prompt token
    "host.poll": 1.0,  # steps before the scheduler takes a request, over those between its looks
    "host.cold": 0.1,  # seconds of compilation in the first wave, spread over all requests
    "host.lost": 0.05,  # slots of the batch that stay empty, so that a request waits for another's end
    "rank.wait": 0.5,  # share of the longest wait of attention-parallel ranks for each other's prompts
    "rank.gather": 0.5,  # how far such ranks take their prompts together (0: each when it comes)
    "mix": 0.5,  # share of a decode step a prefill pass in the same step hides
    "prefill.batching": 0.3,  # exponent: a pass takes most**exponent prompts of the ``most`` it has room for
    "burst": 1.0,  # weight of the first wave, in which all requests arrive at once
    "queue": 1.0,  # weight of waiting behind other prompts
    "disaggregated.request": 5.0e-2,  # routing a request and moving its KV to the decoding engine
    "disaggregated.decode": 1.0,  # over the same decode step in an engine that also prefills
    "disaggregated.prefill": 1.0,  # the same for a prefill pass
    "accept": 2.0,  # odds that a draft token is right
    "draft": 1.0,  # a draft token's time over that of one layer and the head
}

# Of a request's wait for its first token, then what else the fixed point found: seconds of a decode step, the share of
# the time that prefill takes, sequences that decode, prompts that a pass takes together.
PARTS = ("request", "rest of a step", "look", "own pass", "queue", "first wave", "lost slot", "step", "prefill share",
         "active", "prompts of a pass")  # fmt: skip


@dataclass(frozen=True)
class ClosedLoopClients:
    """How the requests are made, shape (n,): ``budget`` tokens a prefill pass takes, ``waves`` requests per slot.

    ``poll``: mean steps to the next look at the queue. ``timeout``: most steps that attention-parallel ranks wait until
    each has a prompt. ``cold``: 1 where the first wave also compiles kernels.
    ``captured``: most tokens of a pass with prompts that is replayed from recorded graphs; 0 where none is.
    ``prefill_first``: 1 where prompts that wait are all read before any sequence decodes on.
    ``spread``: 1 where lengths differ from request to request, so that arrivals spread out; 0 where all are equal.
    """

    budget: Array
    waves: Array
    spread: Array
    poll: Array
    cold: Array
    timeout: Array
    captured: Array
    prefill_first: Array


@dataclass(frozen=True)
class Steady:
    """Seconds of the steady state, shape (n,), and its parts for explanation (those of :data:`PARTS`)."""

    ttft: Array
    tpot: Array
    parts: Mapping[str, Array]


def aggregated(
    point: ClosedLoopPoint, times: StepTimes, client: ClosedLoopClients, coef: Coefficients, rounds: int = 12,
    start: Array | None = None,
) -> Steady:  # fmt: skip
    """TTFT and TPOT of every deployment whose engines both prefill and decode.

    Args:
        coef: a value for every name of :data:`START`, shape (n,) or scalar.
        rounds: of the fixed point, damped by half; ``start``: sequences that decode, where it begins (all of them
            unless given).
    """
    ranks = point.flight / point.dp
    accepted = tokens_accepted(coef["accept"], point.draft)
    prefill = prefill_seconds(point, times, client, coef)
    most = np.maximum(np.minimum(client.budget / point.isl, ranks), 1.0)
    batched = most ** np.minimum(coef["prefill.batching"] * (1.0 - LOST_TO_SPREAD * client.spread), 1.0)
    full = prefill_at(prefill, most)
    first = coef["burst"] * full * np.maximum(ranks / most - 1.0, 0.0) / 2.0 / client.waves
    request = request_seconds(point, client, coef)
    limit = np.maximum(np.minimum(ranks, times.room), 1.0)
    company = 1.0 - 1.0 / np.maximum(point.flight, 1.0)  # a request alone finds no step running and no slot taken
    looks = coef["host.poll"] * client.poll + coef["rank.wait"] * client.timeout
    active = limit if start is None else start
    curve = step_curve(point, times, coef)
    for _ in range(rounds):
        step = curve.seconds(active)
        arrivals = active * point.dp * accepted / point.osl
        # Whatever came since the last look is taken together.
        seen = arrivals * np.maximum(2.0 * client.poll, 1.0)
        each = np.maximum(seen / -np.expm1(-seen) / point.dp, batched)
        each = np.minimum(np.maximum(each, 1.0), most)
        # Ranks that step together share a prefill pass where the engine gathers a prompt for each; else any one's
        # prompt holds up all.
        gathered = arrivals / (point.dp * each)
        scattered = np.where(point.dp > 1, np.maximum(-np.expm1(-arrivals / each), gathered), gathered)
        rate = gathered * (scattered / gathered) ** (1.0 - np.minimum(coef["rank.gather"], 1.0))
        one = prefill_at(prefill, each)
        # A pass that carries prompts besides the decoding sequences saves part of the weights' second reading.
        extra = np.maximum(one - np.minimum(coef["mix"], 1.0) * np.minimum(one, step), LEAST_EXTRA * one)
        if curve.power is not None:  # joules of both are drawn one after the other
            drawn = _at(curve.power, active / ranks) + prefill_at(times.prefill_power, each)
            extra = np.maximum(extra, drawn - step)
        mean = step + rate * extra
        tpot = mean / accepted
        busy = np.minimum(rate, 1.0)
        # The step a request arrives in is likelier a long one.
        second = (1.0 - busy) * step**2 + busy * (step + extra) ** 2
        residual = company * second / (2.0 * ((1.0 - busy) * step + busy * (step + extra)))
        share = np.minimum(rate * extra / mean, FULLEST)
        waiting = coef["queue"] * share**2 / (1.0 - share + 1.0 / np.maximum(ranks, 1.0)) * extra / 2.0
        lost = company * coef["host.lost"] * point.osl * tpot / ranks
        ttft = request + residual + step + extra + waiting + first + looks * mean + lost
        wanted = ranks * point.osl * tpot / (ttft + point.osl * tpot)
        active = np.maximum(DAMPING * active + (1.0 - DAMPING) * np.minimum(wanted, limit), LEAST_DECODING)
    waves = (client.prefill_first > 0) & (client.spread == 0)
    if waves.any():
        found = _in_waves(point, curve.seconds(ranks), request, full, limit / most)
        ttft, tpot = np.where(waves, found[0], ttft), np.where(waves, found[1] / accepted, tpot)
    # Requests beyond the room for their KV wait for a whole other one to end.
    crowd = np.maximum(ranks / limit - 1.0, 0.0) * point.osl * tpot
    ttft = ttft + np.maximum(crowd - (ttft - request), 0.0)
    parts = (request, residual, looks * mean, step + extra, waiting, first, lost, step, share, active, each)
    return Steady(ttft, tpot, dict(zip(PARTS, parts, strict=True)))


def _in_waves(
    point: ClosedLoopPoint, step: Array, request: Array, full: Array, passes: Array
) -> tuple[Array, Array]:  # fmt: skip
    """TTFT and seconds a step where requests of equal length, all read before any decodes on, also end together,
    in waves for ever. Whose prompt is read first waits with its second token for the others.

    Args:
        step: seconds of one of all sequences; ``request``: those of a request outside the engine; ``full``: those of a
            pass that takes all the prompts it has room for; ``passes``: how many of these read all prompts.
    """
    passes = np.maximum(passes, 1.0)
    return request + full * (passes + 1.0) / 2.0 + step, step + full * (passes - 1.0) / 2.0 / point.osl


def request_seconds(point: ClosedLoopPoint, client: ClosedLoopClients, coef: Coefficients) -> Array:
    """Seconds of a request outside the engine, the first wave's compilation spread over all requests (n,)."""
    compiling = coef["host.cold"] * client.cold * (point.flight * point.isl >= client.budget)
    return coef["request"] * coef["client.request"] + coef["host.prompt"] * point.isl + compiling


def prefill_seconds(point: ClosedLoopPoint, times: StepTimes, client: ClosedLoopClients, coef: Coefficients) -> Array:
    """Seconds of a pass over PROMPTS prompts, shape (points, n).

    Launching runs ahead of the device: the slower of both shows, with little of the other where they are close. Passes
    that are replayed from recorded graphs need none.
    """
    busy = coef["ops"] * times.prefill
    tokens = np.asarray(PROMPTS)[:, None] * point.isl + point.flight / point.dp
    launch = coef["launch"] * times.kernels * (tokens > client.captured)
    return np.asarray(np.maximum(np.hypot(busy, launch), times.prefill_power))


@dataclass(frozen=True)
class StepCurve:
    """Seconds of a decode step by its sequences: what does not change while a fixed point is sought.

    Attributes:
        ops: of the device, at ``SHARES`` of the requests (points, n); ``launch``: what launching takes
            (points, n), None where it takes nothing anywhere.
        fixed: beside the ops, whatever the sequences; ``each``: beside them, of one sequence of a rank (n,).
        power: the least that it takes at the watts that a device may draw (points, n), None where that is nothing.
        ranks: requests of a rank (n,).
    """

    ops: Array
    launch: Array | None
    power: Array | None
    fixed: Array
    each: Array
    ranks: Array

    def seconds(self, active: Array) -> Array:
        """Of one step of ``active`` sequences a rank, its drafting included (n,)."""
        share = active / self.ranks
        step = _at(self.ops, share)
        step = step + self.fixed + self.each * active
        if self.launch is not None:
            step = np.hypot(step, _at(self.launch, share))
        return np.asarray(step if self.power is None else np.maximum(step, _at(self.power, share)))


def step_curve(point: ClosedLoopPoint, times: StepTimes, coef: Coefficients) -> StepCurve:
    """Decode steps of every deployment, by the sequences in them."""
    ops = coef["ops"] * times.decode.sum(axis=0)
    fixed = gap_seconds(times, coef)
    # A module of one layer drafts, a token after the other, for the sequences of the step.
    ops = ops * (1.0 + point.draft * coef["draft"] / times.layers)
    launch, power = (x if x.any() else None for x in (times.launch, times.decode_power))
    each = coef["gap_sequence"] * (1.0 + point.draft)
    return StepCurve(ops, launch, power, fixed, each, point.flight / point.dp)


def gap_seconds(times: StepTimes, coef: Coefficients) -> Array:
    """What the device waits between decode steps whatever their sequences (n,)."""
    return np.asarray(coef["gap"] + coef["gap_expert"] * times.mixtures)


def tokens_accepted(odds: Array, draft: Array) -> Array:
    """Tokens one step yields: the drafts up to the first wrong one, and the model's own."""
    p = odds / (1.0 + odds)
    return np.asarray((1.0 - p ** (draft + 1.0)) / (1.0 - p))


def _at(values: Array, x: Array) -> Array:
    """Values given at the decreasing SHARES (points, n), linearly at ``x``."""
    out = values[-1] * np.ones_like(x)
    # From the lowest span up: each replaces what the one below says beyond its end.
    for i in reversed(range(len(SHARES) - 1)):
        high, low = SHARES[i], SHARES[i + 1]
        part = values[i] - values[i + 1]
        part *= (x - low) / (high - low)
        part += values[i + 1]
        np.copyto(out, part, where=x >= low)
    return np.asarray(out)


def prefill_at(values: Array, prompts: Array) -> Array:
    """Seconds of a pass over ``prompts`` prompts: linear between the priced numbers, proportional beyond."""
    out = values[-1] * prompts / PROMPTS[-1]
    for i in range(len(PROMPTS) - 2, -1, -1):
        low, high = PROMPTS[i], PROMPTS[i + 1]
        part = values[i] + (values[i + 1] - values[i]) * (prompts - low) / (high - low)
        out = np.where(prompts <= high, part, out)
    return np.asarray(out)


__all__ = ["PARTS", "START", "ClosedLoopClients", "Coefficients", "Steady", "StepCurve", "aggregated", "gap_seconds",
           "prefill_at", "prefill_seconds", "request_seconds", "step_curve", "tokens_accepted"]  # fmt: skip
