"""From a row of arrays to a deployment that can be simulated and launched."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tierwise.core.numerics import Format, fmt
from tierwise.machines.types import System
from tierwise.models.types import Model
from tierwise.scenario.types import KV, Plan
from tierwise.search.curves import coefficients
from tierwise.search.points import Points
from tierwise.search.question import Question
from tierwise.serving.deployment import Deployment, Replicas, Settings, Speculation


@dataclass(frozen=True)
class Family:
    """What is lowered and priced together.

    Attributes:
        model: with its weights in the format of ``weights`` (None: the checkpoint's own).
        kv: format of the cache, never "".
        most: devices that may be used; ``rent``: dollars per second of one, nan where unknown.
        own: whether the cache is in the format the checkpoint asks for.
    """

    model: Model
    system: System
    engine: str
    kv: str
    weights: Format | None
    most: int
    own: bool = True

    @property
    def rent(self) -> float:
        return self.system.device.price.rent


def deployment(question: Question, families: tuple[Family, ...], points: Points, row: int) -> Deployment:
    """The deployment of one row."""
    family = families[int(points.family[row])]
    two = points.prefills[row] > 0
    context = int(min(question.model.max_context, 2.0**31))
    cache = KV() if family.own else KV(key=fmt(family.kv), value=fmt(family.kv))

    drafts = speculation(family, int(points.draft[row]))

    def group(tp: float, pp: float, dp: float, ep: float, count: float, role: str, seqs: float) -> Replicas:
        degrees = {"tp": float(tp), "pp": float(pp), "dp": float(dp), "ep": float(ep)}
        plan = Plan(**degrees, weights=family.weights, kv=cache)  # type: ignore[arg-type]
        settings = Settings(
            engine=family.engine, max_seqs=int(np.ceil(max(seqs, 1.0) - 1e-6)), budget=int(points.tokens[row]),
            memory=question.freedom.memory, prefix_cache=question.freedom.prefix_cache[0],
            speculation=drafts, max_len=_length(question, context),
        )  # fmt: skip
        return Replicas(family.system, plan, round(float(count)), role, settings)  # type: ignore[arg-type]

    own = group(points.tp[row], points.pp[row], points.dp[row], points.ep[row], points.decodes[row],
                "decode" if two else "both", points.most[row])  # fmt: skip
    if not two:
        return Deployment(question.model, (own,), router(question))
    first = group(points.p_tp[row], points.p_pp[row], points.p_dp[row], points.p_ep[row], points.prefills[row],
                  "prefill", Settings().max_seqs)  # fmt: skip
    return Deployment(question.model, (first, own), router(question))


def router(question: Question) -> str:
    """How requests find an engine: to where their prefix is where prompts share any, else to the freer of two."""
    return question.freedom.router or ("prefix_aware" if question.demand.shared > 0 else "power_of_two")


def speculation(family: Family, length: int) -> Speculation:
    """Drafts that are right as often, and cost as much, as those of the measured runs that the steady state knows."""
    if not length:
        return Speculation()
    _, k = coefficients(family.engine, family.system, family.model)
    odds, layers = (
        float(np.mean(k["accept"])),
        sum(s.depth for s in family.model.stacks if s.stream == "text" and s.active),
    )
    return Speculation(
        length, accept=odds / (1.0 + odds), cost=float(np.mean(k["draft"])) / max(layers, 1), tree=length
    )


def _length(question: Question, context: int) -> int:
    """Tokens one request may have: the model's own, or 0 (no limit of ours) where it has none."""
    return context if context < 2**31 else 0
