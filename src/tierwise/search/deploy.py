"""From a row of arrays to a deployment that can be simulated and launched."""

from __future__ import annotations

import numpy as np

from tierwise.scenario.types import KV, Plan
from tierwise.search.family import Family, coefficients
from tierwise.search.points import Points
from tierwise.search.question import Question
from tierwise.serving.deployment import Deployment, Replicas, Settings, Speculation
from tierwise.serving.room import fitted
from tierwise.serving.step_times import cache_in, text_layers


def deployment(question: Question, families: tuple[Family, ...], points: Points, row: int) -> Deployment:
    """The deployment of one row."""
    family = families[int(points.family[row])]
    two = points.prefills[row] > 0
    context = int(min(question.model.max_context, 2.0**31))
    cache = KV() if family.own else cache_in(family.kv)

    drafts = speculation(family, int(points.draft[row]))

    first = family.roles[0]

    def group(of: Family, tp: float, pp: float, dp: float, ep: float, count: float, role: str, seqs: float) -> Replicas:
        degrees = {"tp": float(tp), "pp": float(pp), "dp": float(dp), "ep": float(ep)}
        plan = Plan(**degrees, weights=of.weights, kv=cache)  # type: ignore[arg-type]
        settings = Settings(
            engine=family.engine, max_seqs=int(np.ceil(max(seqs, 1.0) - 1e-6)), budget=int(points.tokens[row]),
            memory=question.freedom.memory, prefix_cache=question.freedom.prefix_cache[0],
            speculation=drafts, max_len=_length(question, context),
        )  # fmt: skip
        return Replicas(of.system, plan, round(float(count)), role, settings)  # type: ignore[arg-type]

    own = group(family, points.tp[row], points.pp[row], points.dp[row], points.ep[row], points.decodes[row],
                "decode" if two else "both", points.most[row])  # fmt: skip
    least = max(question.demand.longest, question.demand.prompt + question.demand.output)
    if not two:
        return fitted(Deployment(question.model, (own,), router(question)), least)
    before = group(first, points.p_tp[row], points.p_pp[row], points.p_dp[row], points.p_ep[row], points.prefills[row],
                  "prefill", Settings().max_seqs)  # fmt: skip
    return fitted(Deployment(question.model, (before, own), router(question)), least)


def router(question: Question) -> str:
    """How requests find an engine: to where their prefix is where prompts share any, else to the freer of two."""
    return question.freedom.router or ("prefix_aware" if question.demand.shared > 0 else "power_of_two")


def speculation(family: Family, length: int) -> Speculation:
    """Drafts that are right as often, and cost as much, as those of the measured runs that the steady state knows."""
    if not length:
        return Speculation()
    _, coef = coefficients(family)
    odds, layers = float(np.mean(coef["accept"])), max(text_layers(family.model), 1)
    return Speculation(length, accept=odds / (1.0 + odds), cost=float(np.mean(coef["draft"])) / layers, tree=length)


def _length(question: Question, context: int) -> int:
    """Tokens one request may have: the model's own, or 0 (no limit of ours) where it has none."""
    return context if context < 2**31 else 0
