"""The plan that makes a model fit on one computer: formats, and which layers, experts and caches lie on which tier.

For each format of weights and caches, every way that engines of one's own machine offer is asked for the least it has
to move off the device: layers from the first, experts from the first, caches, or what is read from disk. Moving less is
never slower, so of each way only that one is priced, by the one road (:func:`tierwise.evaluation.evaluate`); "fits" is
the memory account's answer, on the device and on the host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tierwise.core.errors import TierwiseError
from tierwise.evaluation import evaluate
from tierwise.program.residency import cyclic_lru, random_lru
from tierwise.result import Result
from tierwise.scenario.types import Scenario
from tierwise.search.fit_question import (
    CACHE_FORMATS,
    UBATCH,
    WIDE,
    FitCandidate,
    FitChoice,
    FitQuestion,
    bits_of,
    formats,
)
from tierwise.techniques.tiers import partial_offload, read_from_disk

# Rounds in which what a disk's part needs of memory itself settles.
SETTLES = 12
Tell = Callable[[str, int, int, str], None]


@dataclass(frozen=True)
class FitAnswer:
    """What was found.

    Attributes:
        candidates: that fit and keep the least bits, the best first. ``narrower``: the best of each format below the
            least bits, widest first. ``missed``: those nearest to fitting where nothing fits.
        considered: plans whose memory was accounted.
    """

    question: FitQuestion
    candidates: tuple[FitCandidate, ...]
    narrower: tuple[FitCandidate, ...]
    missed: tuple[FitCandidate, ...]
    considered: int

    @property
    def best(self) -> FitCandidate | None:
        return self.candidates[0] if self.candidates else None


def plan_fit(q: FitQuestion, tell: Tell | None = None) -> FitAnswer:
    """The plans that fit, the best for the goal first.

    Raises:
        TierwiseError: a model that generates nothing, a machine that no engine of this search runs on.
    """
    if q.model.task != "generate" or not q.layers:
        raise TierwiseError(f"plan fit: {q.name} generates no text; `tierwise allocate` places other graphs")
    search = _Search(q)
    wanted = [(w, bits, kv) for w, bits in formats(q) for kv in q.kv or CACHE_FORMATS]
    wanted = [x for x in wanted if x[1] >= q.min_bits or x[2] == wanted[0][2]]
    found: list[FitCandidate] = []
    short: list[FitCandidate] = []
    for i, (weights, bits, kv) in enumerate(wanted):
        if tell is not None:
            tell("looking where everything fits", i, len(wanted), f"{weights or 'own format'}, KV {kv}")
        for c in search.ways(weights, kv, bits):
            (found if bool(c.result.fits) else short).append(c)
    best = sorted((c for c in found if c.choice.bits >= q.min_bits), key=lambda c: rank(q, c))
    below = [min(mine, key=lambda c: rank(q, c)) for name, bits in formats(q) if bits < q.min_bits
             and (mine := [c for c in found if c.choice.weights == name])]  # fmt: skip
    wide = [c for c in short if c.choice.bits >= q.min_bits] or short
    return FitAnswer(q, tuple(best), tuple(below), tuple(sorted(wide, key=_lacks)[:3]), search.count)


def rank(q: FitQuestion, c: FitCandidate) -> float:
    """What is made least: seconds of a conversation, or seconds a token of all of them."""
    return c.seconds if q.goal == "latency" else 1.0 / max(float(c.result.throughput), 1e-30)


def _lacks(c: FitCandidate) -> float:
    """How many times too large the fullest tier is."""
    m = c.result.memory
    over = [float(m.peak) / float(m.capacity)]
    over += [float(m.elsewhere.get(n, 0.0)) / max(float(room), 1.0) for n, room in m.room_elsewhere.items()]
    return max(over)


class _Search:
    """The ways of one question, with a count of the accounts made."""

    def __init__(self, q: FitQuestion) -> None:
        self.q, self.count = q, 0
        self.known: dict[FitChoice, FitCandidate] = {}

    def ways(self, weights: str, kv: str, bits: float) -> Iterator[FitCandidate]:
        """One candidate for each way, with the least moved off the device; whether it fits is its result's to say."""
        q, first = self.q, FitChoice(weights, kv, bits)
        whole = self.at(first)
        wide = replace(first, ubatch=WIDE)
        if whole.result.fits or not q.has_host:
            yield whole
            if not whole.result.fits and q.disk:
                yield from self._from_disk(whole)
            return
        # Weights that are copied to the device for prompts are copied once for each micro-batch.
        for start in (first, wide):
            yield from self._divided(start)

    def _divided(self, first: FitChoice) -> Iterator[FitCandidate]:
        """Of a model that the device does not hold: what is left to the host."""
        q = self.q
        if q.routed:
            yield from self._least(first, "experts", q.routed)
            most = replace(first, experts=q.routed)
            if not self._on_device(self.at(most).result):
                # Even with all experts outside: whole layers too, which takes their experts along.
                yield from self._least(first, "layers", q.layers)
        else:
            yield from self._least(first, "layers", q.layers)
            yield from self._least(first, "feed_forward", q.layers, give_up=True)
            if first.ubatch == UBATCH:
                caches = self.at(replace(first, caches=q.layers))
                yield caches if self._on_device(caches.result) else self._host(caches.choice, "layers")

    def at(self, c: FitChoice) -> FitCandidate:
        """A choice as a scenario, and its result (priced when somebody asks)."""
        if c not in self.known:
            self.count += 1
            s = scenario_of(self.q, c)
            self.known[c] = FitCandidate(c, s, evaluate(s))
        return self.known[c]

    def _least(self, first: FitChoice, what: str, most: int, give_up: bool = False) -> Iterator[FitCandidate]:
        """The choice that leaves least of ``what`` on the host while the device holds the rest."""
        all_of = self.at(_with(first, what, most))
        if not self._on_device(all_of.result):
            if not give_up:
                yield all_of
            return
        none = self.at(first)
        # Bytes are almost in proportion to layers: begin where a straight line meets the capacity.
        full, empty, room = (float(x) for x in (none.result.memory.peak, all_of.result.memory.peak,
                                                none.result.memory.capacity))  # fmt: skip
        low, high = 0, most
        guess = int(np.ceil((full - room) / max(full - empty, 1.0) * most))
        while high - low > 1:
            middle = min(max(guess, low + 1), high - 1)
            fits = self._on_device(self.at(_with(first, what, middle)).result)
            low, high = (low, middle) if fits else (middle, high)
            guess = middle - 1 if fits and guess == middle else middle + 1 if guess == middle else (low + high) // 2
        yield self._settled(_with(first, what, high))

    def _host(self, first: FitChoice, what: str) -> FitCandidate:
        """With all caches on the host: layers too, as many as it takes."""
        low, high = 0, self.q.layers
        while high - low > 1:
            middle = (low + high) // 2
            c = replace(_with(first, what, middle), caches=self.q.layers - middle)
            low, high = (low, middle) if self._on_device(self.at(c).result) else (middle, high)
        return self._settled(replace(_with(first, what, high), caches=self.q.layers - high))

    def _settled(self, c: FitChoice) -> FitCandidate:
        """The candidate; where the host cannot hold its part, with what has to be read from disk again and again."""
        made = self.at(c)
        m = made.result.memory
        room, held = m.room_elsewhere.get("host"), m.elsewhere.get("host", 0.0)
        if room is None or float(held) <= float(room) or not self.q.disk:
            return made
        # Caches stay; weights share what is left of the memory with the page cache, which holds nothing else.
        return self.at(replace(c, missed=self._missed(made, float(held), float(room)), disk=self.q.disk))

    def _missed(self, made: FitCandidate, held: float, room: float) -> float:
        caches = float(sum(np.ravel(made.result.memory.elsewhere_caches.get("host", 0.0))))
        weights, left = max(held - caches, 1.0), max(room - caches, 0.0)
        if made.choice.experts:  # experts are drawn token by token
            return float(1.0 - random_lru(weights, left))
        return float(1.0 - cyclic_lru(weights, left))

    def _from_disk(self, whole: FitCandidate) -> Iterator[FitCandidate]:
        """On a machine that is its own host: what memory does not hold is read from disk as it is needed."""
        m = whole.result.memory
        role = "expert" if self.q.routed else ""
        weights = float(m.weights.get("expert", 0.0)) if role else float(m.weight_bytes)
        left = weights - (float(m.peak) - float(m.capacity))
        if left <= 0.0:
            return
        for _ in range(SETTLES):  # what is read takes a buffer, which takes of what is left
            share = float(1.0 - (random_lru(weights, left) if role else cyclic_lru(weights, left)))
            found = self.at(replace(whole.choice, missed=share, disk=self.q.disk))
            over = float(found.result.memory.peak) - float(m.capacity)
            if over <= 0.0 or share >= 1.0:
                break
            left -= 1.25 * over
        yield found

    @staticmethod
    def _on_device(r: Result) -> bool:
        return bool(np.asarray(r.memory.peak) <= r.memory.capacity)


def scenario_of(q: FitQuestion, c: FitChoice) -> Scenario:
    """The scenario of a choice."""
    s = q.scenario(c.weights, c.kv, c.ubatch)
    if not q.has_host:
        return s if not c.missed else s.apply(
            read_from_disk(c.missed, c.disk, experts=bool(q.routed), skew=q.skew if q.routed else 0.0)
        )
    return s.apply(partial_offload(float(c.layers), float(c.experts), float(c.caches), float(c.feed_forward), c.missed,
                                   c.disk, skew=q.skew))  # fmt: skip


def _with(c: FitChoice, what: str, count: int) -> FitChoice:
    """The choice with so many layers of something on the host."""
    changed: dict[str, Any] = {what: count}
    return replace(c, **changed)


__all__ = ["FitAnswer", "FitCandidate", "FitChoice", "FitQuestion", "bits_of", "plan_fit", "rank", "scenario_of"]
