"""What is asked of a plan that makes a model fit, and what such a plan is made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tierwise.core.numerics import MIXTURES, Format, fmt
from tierwise.machines.types import System
from tierwise.models.facts import facts_of
from tierwise.models.marks import decoder, experts_of
from tierwise.models.mixtures import stored_as
from tierwise.models.types import Model
from tierwise.result import Result
from tierwise.scenario.types import KV, Batch, Plan, Scenario

# Files that llama.cpp's quantize makes and people publish, widest first; IQ types below 3 bits need an importance
# matrix. ``""`` is what the checkpoint itself is stored in.
FORMATS = ("bf16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "iq4_xs", "q3_k_m", "iq3_xxs", "q2_k", "iq2_xs", "iq2_xxs")
CACHE_FORMATS = ("fp16", "q8_0")
# Tokens of a micro-batch (-ub): llama.cpp's own, and the wider that people take where weights are copied for each.
UBATCH, WIDE = 512.0, 2048.0


@dataclass(frozen=True)
class FitQuestion:
    """What a user asked.

    Attributes:
        model, machine: values; ``name``, ``on``: as the user wrote them.
        context: tokens of a conversation, of which ``output`` are generated. ``batch``: conversations at once, None for
            as many as pay.
        min_bits: of a weight at least. ``goal``: ``latency`` or ``throughput``. ``engine``: that runs it.
        weights, kv: formats to try; empty for those of the engine.
        skew: Zipf exponent of how often experts are chosen; 0 where all are alike often.
    """

    model: Model
    machine: System
    name: str
    on: str
    context: float
    output: float
    batch: float | None
    min_bits: float
    goal: str
    engine: str
    weights: tuple[str, ...] = ()
    kv: tuple[str, ...] = ()
    skew: float = 0.0

    @property
    def prompt(self) -> float:
        return self.context - self.output

    @property
    def layers(self) -> int:
        stack = decoder(self.model)
        return stack.depth if stack is not None else 0

    @property
    def routed(self) -> int:
        """Layers with routed experts."""
        stack = decoder(self.model)
        return len(experts_of(stack)) if stack is not None else 0

    @property
    def experts(self) -> tuple[int, float]:
        """(routed experts of a layer, how many of them a token chooses); (0, 0) of a dense model."""
        stack = decoder(self.model)
        found = [facts_of(b) for k in (stack.kinds if stack is not None else ()) for b in k.blocks]
        sizes = ((int(np.max(f.experts)), float(np.max(f.top_k))) for f in found
                 if f.experts is not None and f.top_k is not None)  # fmt: skip
        return next(sizes, (0, 0.0))

    @property
    def disk(self) -> str:
        """The first disk of the computer, by the name of its node; ``""`` where none is known."""
        host = self.machine.host
        tiers = [t.name for d in (host.storage if host else ()) for t in d.tiers if t.kind == "storage"]
        return tiers[0] if tiers else ""

    @property
    def has_host(self) -> bool:
        """Whether processors beside the device are known that compute."""
        return self.machine.host is not None and self.machine.host.cpu is not None

    def scenario(self, weights: str, kv: str, ubatch: float = UBATCH) -> Scenario:
        """One conversation (or so many) with everything on the device, cards one after the other."""
        form = fmt(kv)
        plan = Plan(pp=float(self.machine.count), weights=fmt(weights) if weights else None, kv=KV(form, form),
                    chunk=ubatch)
        traffic = Batch(self.prompt, self.output, self.batch or 1.0)
        return Scenario(self.model, self.machine, traffic, plan, engine=self.engine)


@dataclass(frozen=True)
class FitChoice:
    """Where everything goes.

    Attributes:
        weights, kv: formats. ``bits``: of a weight that most of them have.
        layers, experts, caches, feed_forward: how many layers the host holds and computes wholly, the experts of, the
            caches of, the feed-forward parts of.
        ubatch: tokens of a micro-batch.
        missed: share of the weights outside the device for which memory has no room and which lie on ``disk`` alone.
    """

    weights: str
    kv: str
    bits: float
    layers: int = 0
    experts: int = 0
    caches: int = 0
    feed_forward: int = 0
    ubatch: float = UBATCH
    missed: float = 0.0
    disk: str = ""

    @property
    def whole(self) -> bool:
        """Whether everything but the embeddings lies on the device."""
        return not (self.layers or self.experts or self.caches or self.feed_forward or self.missed)


@dataclass(frozen=True)
class FitCandidate:
    """A choice with what it costs."""

    choice: FitChoice
    scenario: Scenario
    result: Result

    @property
    def seconds(self) -> float:
        """Of the whole conversation."""
        return float(self.result.time)

    @property
    def rate(self) -> float:
        """Tokens per second while decoding, of all conversations."""
        return float(self.result.decode_throughput)


def formats(q: FitQuestion) -> list[tuple[str, float]]:
    """(name, bits of most of its weights) of every format to try, widest first, whatever the least bits are."""
    names = q.weights or FORMATS
    own = q.model.format_of("expert" if q.routed else "mlp")
    if not q.weights and float(own.bits) < 8.0:  # such as gpt-oss, whose experts are published in MXFP4 alone
        return [("", float(own.bits + own.meta))]
    return [(name, bits_of(name)) for name in names]


def bits_of(name: str) -> float:
    """Bits a weight of the type that most of a file's weights have."""
    form: Format = fmt(MIXTURES.get(str(fmt(name)), name))
    return float(form.bits + form.meta)


def stored(model: Model, weights: str) -> Model:
    """The model as a file of a format holds it."""
    return stored_as(model, fmt(weights) if weights else None)
