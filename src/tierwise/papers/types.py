"""A paper: what its authors published, and how the engine gets there."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

REPRODUCED, PARTLY, OFF, NEEDS_SETUP, NEEDS_FEATURE = "reproduced", "partly", "off", "needs-setup", "needs-feature"
IDENTITY, BLIND, UNREAD = "identity", "blind", "unread"

# Relative tolerances by kind of claim; an exponent's is absolute. A bound ("less than", "at least", "fits")
# holds or does not.
TOLERANCE = {
    "count": 0.05,
    "memory": 0.10,
    "ratio": 0.20,
    "up-to": 0.25,
    "absolute": 0.25,
    "exponent": 0.05,
    "at-most": 0.0,
    "at-least": 0.0,
}

# What a number measures. Claims of one metric stand or fall together; what a metric is taken to be when a claim does
# not say follows from its kind.
METRICS = ("time", "energy", "memory", "capacity", "count", "quality")
_USUAL = {"count": "count", "memory": "memory", "exponent": "count", "ratio": "time", "up-to": "time",
          "absolute": "time"}  # fmt: skip


@dataclass(frozen=True)
class Claim:
    """One published number.

    Attributes:
        what: what was compared with what, in a few words.
        published: the value, or a (low, high) range of stated values.
        unit: of the value ("x", "%", "GB", "exponent", ...).
        kind: key of :data:`TOLERANCE`: how close counts as reproduced.
        source: where it is published (abstract, table, section).
        compute: the engine's value, from scenarios; None when it cannot be computed.
        missing: without ``compute``: ``needs-setup`` or ``needs-feature``.
        why: the reason for a missing or off value, or how the value follows.
        extra: not in the paper's abstract: a further stated result that shows the mechanism.
        identity: the value follows from stated inputs alone (a budget read back, a ratio of two stated numbers), so
            no engine could get it wrong: shown, never counted.
        blind: a claim about time that comes out on engines with wrong memory, compute, links and hosts as well
            (``tierwise papers --mutate``), so that coming out says little of this one: it never makes a paper
            reproduced.
        unread: the published number was written down from memory, the paper's text not being at hand: until it is
            compared with the text, coming out never makes a paper reproduced.
        metric: one of :data:`METRICS`; by default what claims of this kind usually measure (times for ratios).
    """

    what: str
    published: float | tuple[float, float]
    unit: str
    kind: str
    source: str
    compute: Callable[[], float] | None = None
    missing: str = ""
    why: str = ""
    extra: bool = False
    identity: bool = False
    blind: bool = False
    unread: bool = False
    metric: str = ""

    def __post_init__(self) -> None:
        if self.kind not in TOLERANCE:
            raise ValueError(f"claim kind {self.kind!r} is none of {', '.join(TOLERANCE)}")
        if self.compute is None and self.missing not in (NEEDS_SETUP, NEEDS_FEATURE):
            raise ValueError("a claim without compute says what is missing")
        if not all(map(math.isfinite, self.ends)):
            raise ValueError("a claim has a published number")
        metric = self.metric or _USUAL.get(self.kind, "")
        if metric not in METRICS:
            raise ValueError(f"claim metric {metric!r} is none of {', '.join(METRICS)}; a bound has to say which")
        object.__setattr__(self, "metric", metric)

    @property
    def ends(self) -> tuple[float, float]:
        """The published range; twice the same for a single value."""
        return self.published if isinstance(self.published, tuple) else (self.published, self.published)

    def judge(self, value: float) -> str:
        """``reproduced`` or ``off``; ``identity``, ``blind`` or ``unread`` in place of the former where it is that."""
        if not self._inside(value):
            return OFF
        return IDENTITY if self.identity else BLIND if self.blind else UNREAD if self.unread else REPRODUCED

    def _inside(self, value: float) -> bool:
        low, high = self.ends
        if not math.isfinite(value):
            return False
        if self.kind == "at-most":
            return value <= high
        if self.kind == "at-least":
            return value >= low
        tolerance = TOLERANCE[self.kind]
        if self.kind == "exponent":
            return low - tolerance <= value <= high + tolerance
        return low * (1 - tolerance) <= value <= high * (1 + tolerance)


@dataclass(frozen=True)
class Paper:
    """A published system.

    Attributes:
        slug: as on its card.
        title, source: the paper and where to find it.
        mechanism: what it changes, in one sentence of ours.
        claims: what it published.
        assumptions: inputs taken from the paper or its code, each with its place; and readings chosen.
    """

    slug: str
    title: str
    source: str
    mechanism: str
    claims: tuple[Claim, ...]
    assumptions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What came out of a claim: the engine's value (nan when none) and its state."""

    claim: Claim
    value: float
    state: str
    error: str = ""

    @property
    def deviation(self) -> float:
        """Relative distance to the nearest published value; nan without a value or for a bound."""
        low, high = self.claim.ends
        if not math.isfinite(self.value) or self.claim.kind in ("at-most", "at-least") or low == 0:
            return float("nan")
        if self.claim.kind == "exponent":
            return self.value - min(max(self.value, low), high)
        return self.value / min(max(self.value, low), high) - 1.0


@dataclass(frozen=True)
class Standing:
    """Where a paper stands.

    Attributes:
        state: ``reproduced``, ``partly``, ``off``, ``needs-setup`` or ``needs-feature``.
        inside, of: how many of the claims that count came out, and how many count.
        abstract: whether the abstract has a number that could be held against an engine.
    """

    state: str
    inside: int
    of: int
    abstract: bool

    def __str__(self) -> str:
        return f"{self.state} ({self.inside} of {self.of})" if self.state == PARTLY else self.state


def counted(outcomes: list[Outcome]) -> list[Outcome]:
    """The outcomes that decide where a paper stands.

    The claims of its abstract, and further results of the same metrics; every further result where the abstract has
    no number of its own that an engine could get wrong. Identities never count.
    """
    real = [o for o in outcomes if not o.claim.identity]
    metrics = {o.claim.metric for o in real if not o.claim.extra}
    return [o for o in real if o.claim.metric in metrics] if metrics else real


def standing(outcomes: list[Outcome]) -> Standing:
    """Where a paper stands, from what became of its claims.

    ``reproduced`` when every claim of the abstract that the engine can express (all but ``needs-feature``) was
    computed and came out, there is at least one, none is blind or unread, and no further result of the same metric
    is off. Where the abstract has no number, its further results stand for it. ``partly`` when some came out, ``off``
    when some were computed and none did, else what is missing. Blind and unread claims are not among the n of the m
    that came out.
    """
    deciding = counted(outcomes)
    abstract = not all(o.claim.extra for o in outcomes)
    own = [o for o in deciding if not o.claim.extra] or deciding
    inside = [o for o in deciding if o.state == REPRODUCED]
    expressible = [o for o in own if o.state != NEEDS_FEATURE]
    off = [o for o in deciding if o.state == OFF]
    if expressible and not off and all(o.state == REPRODUCED for o in expressible):
        state = REPRODUCED
    elif inside or (not off and any(o.state in (BLIND, UNREAD) for o in deciding)):
        state = PARTLY
    elif off:
        state = OFF
    else:
        # Nothing to compute yet. A paper without any number to hold an engine against lacks its setup too.
        unknown = not outcomes or any(o.state == NEEDS_SETUP for o in deciding)
        state = NEEDS_SETUP if unknown else NEEDS_FEATURE
    return Standing(state, len(inside), len(deciding), abstract)
