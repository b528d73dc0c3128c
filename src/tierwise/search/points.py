"""Configurations as rows of arrays: every deployment of the space with what the steady state says about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from tierwise.search.constants import DEVIATIONS
from tierwise.search.curves import Curves
from tierwise.search.question import Question
from tierwise.serving.step_times import Array


@dataclass(frozen=True)
class Points:
    """``n`` deployments; every field of shape (n,).

    Attributes:
        family: whose machine, engine and formats, an index into the list of them; ``variant``: of its curves, so
            that deployments of one kind differ in ``units`` and ``flight`` alone.
        tp, pp, dp, ep: of the engines that decode (or do both); ``p_*`` of those that prefill, 0 where none does.
        prefills, decodes: engines of each role in the whole deployment; ``prefills`` 0 where every engine does both.
        units: equal parts the deployment is made of.
        draft, tokens: draft tokens and token budget of a step.
        devices: in all; ``rent``: dollars per second (devices where the price is unknown).
        flight: requests in flight in the whole deployment; ``rate``: requests per second it answers then.
        ttft, tpot: mean seconds.
        capacity: requests per second it answers within the targets, however many come.
        limit: requests per second it answers at all.
        alone: seconds per token of a request that no other one slows; no load makes an engine faster than that.
        most: sequences that one engine rank may hold: its mean and some more, so that chance finds no seat taken.
        slow_ttft, slow_tpot: factors on the times from expected times to those that the plan must hold at; ``capacity``
            counts with them.
    """

    family: Array
    variant: Array
    tp: Array
    pp: Array
    dp: Array
    ep: Array
    p_tp: Array
    p_pp: Array
    p_dp: Array
    p_ep: Array
    prefills: Array
    decodes: Array
    units: Array
    draft: Array
    tokens: Array
    devices: Array
    rent: Array
    flight: Array
    rate: Array
    ttft: Array
    tpot: Array
    capacity: Array
    limit: Array
    alone: Array
    most: Array
    slow_ttft: Array
    slow_tpot: Array

    def __len__(self) -> int:
        return len(self.tp)

    def take(self, index: NDArray[np.intp] | NDArray[np.bool_]) -> Points:
        return Points(**{f.name: getattr(self, f.name)[index] for f in fields(Points)})

    def latency(self, output: float) -> Array:
        """Seconds of a whole request."""
        return self.ttft + (output - 1.0) * self.tpot

    @property
    def surely(self) -> Points:
        """The points with the times that they should stay within, which then are their own."""
        one = np.ones(len(self))
        return replace(self, ttft=self.ttft * self.slow_ttft, tpot=self.tpot * self.slow_tpot, slow_ttft=one,
                       slow_tpot=one)  # fmt: skip


def evaluated(question: Question, curves: Sequence[Sequence[Curves]]) -> Points:
    """All deployments of all families, whose curves are in their order."""
    parts, first = [], 0
    for i, several in enumerate(curves):
        for c in several:
            parts.append(points(question, c, i, first))
            first += len(c.tokens)
    return joined(parts) if parts else Points(*[np.zeros(0)] * len(fields(Points)))


def _by_instances(rent: Array, instance: float) -> Array:
    """What is paid where devices are rented by instances of so many dollars a second; 0: by the device."""
    return np.asarray(np.ceil(rent / instance - 1e-9) * instance) if instance else rent


def joined(parts: Sequence[Points]) -> Points:
    """All of them, one after the other."""
    return Points(**{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Points)})


def points(question: Question, curves: Curves, family: int, first: int) -> Points:
    """Deployments made of units with those curves, as many as there are devices for.

    Where nothing fixes the load, the machine is filled and every number in flight is a deployment; a given rate or
    number in flight is shared by every possible number of units, each at the point of its curve where it ends up:
    for a rate by Little's law, requests in flight = rate × time in the system.

    Args:
        first: number of the first variant.
    """
    kind = question.demand.kind
    affordable = curves.affordable
    if kind == "free":
        position = np.broadcast_to(np.arange(curves.flight.shape[1], dtype=float), curves.flight.shape)
        units = np.broadcast_to(affordable[:, None], curves.flight.shape)
    else:
        counts = np.arange(1.0, max(float(np.max(affordable, initial=0.0)), 1.0) + 1.0)
        units = np.broadcast_to(counts, (len(affordable), len(counts)))
        share = (question.demand.rate if kind == "open" else question.demand.concurrency) / units
        position = _position(np.maximum.accumulate(curves.rate, axis=1) if kind == "open" else curves.flight, share)
    position = np.where((units <= affordable[:, None]) & (units >= 1), position, np.nan)
    variant, column = np.nonzero(np.isfinite(position))
    at = position[variant, column]
    count = units[variant, column]

    def read(values: Array) -> Array:
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, values.shape[1] - 1)
        part = at - low
        upper = np.where(part > 0, values[variant, high], 0.0)
        return np.asarray(values[variant, low] * (1.0 - part) + upper * part)

    own, other = curves.engines.take(variant), curves.prefill.take(variant)
    two = (curves.prefills[variant] > 0).astype(float)
    ttft, tpot = read(curves.ttft), read(curves.tpot)
    rate, flight = read(curves.rate) * count, read(curves.flight) * count
    if kind == "open":
        rate = np.full(len(at), question.demand.rate)
        flight = np.minimum(flight, rate * (ttft + question.demand.output * tpot))
    devices, paid = count * curves.devices[variant], np.where(np.isfinite(curves.rent), curves.rent, curves.devices)
    # Numbers in flight vary from rank to rank and over time about as a Poisson variable does.
    mean = read(curves.flight) / (curves.decodes * curves.engines.dp)[variant]
    most_seqs = np.minimum(mean + DEVIATIONS * np.sqrt(mean), question.freedom.max_seqs)
    late, slow = (x * t for x, t in zip(curves.slower, (curves.ttft, curves.tpot), strict=True))
    within = (late <= question.targets.ttft) & (slow <= question.targets.tpot)
    surely = curves.flight / (late + question.demand.output * slow)
    able = np.max(np.where(within & np.isfinite(curves.rate), surely, 0.0), axis=1, initial=0.0)
    peak = np.max(np.where(np.isfinite(curves.rate), curves.rate, 0.0), axis=1, initial=0.0)
    found = Points(
        np.full(len(at), float(family)), np.asarray(variant + first, dtype=float), own.tp, own.pp, own.dp, own.ep,
        other.tp * two, other.pp * two, other.dp * two, other.ep * two,
        curves.prefills[variant] * count, curves.decodes[variant] * count, count,
        curves.draft[variant], curves.tokens[variant], devices,
        _by_instances(count * paid[variant], curves.instance), flight, rate, ttft, tpot, able[variant] * count,
        peak[variant] * count, np.minimum(tpot, curves.tpot[variant, 0]), most_seqs,
        np.full(len(at), curves.slower[0]), np.full(len(at), curves.slower[1]),
    )  # fmt: skip
    keep = np.isfinite(found.ttft) & np.isfinite(found.tpot) & np.isfinite(found.rate)
    return found.take(keep)


def _position(rising: Array, wanted: Array) -> Array:
    """Where along each curve (v, f) a value (v, k) is reached: a fractional position, nan beyond its end.

    Below the curve's start lies its first point: a lone request meets an idle engine.
    """
    known = np.where(np.isfinite(rising), rising, np.inf)
    reached = known[:, None, :] >= wanted[:, :, None]
    above = np.argmax(reached, axis=2)
    rows = np.arange(len(rising))[:, None]
    high = known[rows, above]
    low = known[rows, np.maximum(above - 1, 0)]
    with np.errstate(invalid="ignore", divide="ignore"):
        inside = above - 1 + np.where(high > low, (wanted - low) / (high - low), 1.0)
    out = np.where(above == 0, 0.0, inside)
    return np.where(np.isfinite(high) & reached.any(axis=2), out, np.nan)
