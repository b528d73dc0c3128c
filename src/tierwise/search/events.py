"""Whether what finalists were priced with holds event by event.

The planner and the simulator take the pace of a pipeline from its slowest stage, and other orders than one op after the
other in their array form. A finalist's own steps are played here (:func:`tierwise.schedule.play.play`), micro-batches
round the stages with every layer on the one that it lies on.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tierwise.models.types import Model
from tierwise.schedule import order
from tierwise.schedule.play import play
from tierwise.schedule.types import Demand
from tierwise.search.answer import Answer, Choice
from tierwise.search.deploy import deployment
from tierwise.serving.deployment import Replicas
from tierwise.serving.pricing import engine_of
from tierwise.steps.cost import BESIDE
from tierwise.steps.price import price_step
from tierwise.steps.stages import slowest, times
from tierwise.steps.state import Chunk, StepState


def confirmed(answer: Answer) -> Answer:
    """The answer whose simulated deployments say how far their steps are from those played event by event."""
    q, p = answer.question, answer.points

    def played(choice: Choice | None) -> Choice | None:
        if choice is None:
            return None
        made, flight = deployment(q, answer.families, p, choice.row), float(p.flight[choice.row])
        own = [off(made.model, g, flight, q.demand.prompt, q.demand.output) for g in made.groups]
        return replace(choice, events=max(own, key=abs))

    found = tuple(c for c in map(played, answer.finalists) if c is not None)
    return replace(answer, finalists=found, best=played(answer.best), runner_up=played(answer.runner_up))


def off(model: Model, group: Replicas, flight: float, prompt: float, output: float) -> float:
    """How much longer (relative) a group's typical step takes event by event than in the array form; 0 where both are
    the same sum.

    Args:
        flight: requests that all engines of the group hold.
    """
    plan = group.plan
    if float(plan.pp) <= 1 and not plan.schedule and not plan.overlap:
        return 0.0
    seqs = max(flight / float(group.count * plan.dp * plan.pp), 1.0)
    state = StepState.decoding(seqs, prompt + output / 2.0)
    if group.role == "prefill":
        state = StepState(chunks=(Chunk(prompt, 0.0, 1.0),))
    on = engine_of(model, group)
    cost = price_step(on, state)
    more = 1.0
    if cost.overlaps:
        more = float(cost.executed[1].time) / float(cost.played(cost.schedule or BESIDE)[1].time)
    if float(plan.pp) <= 1:
        return more - 1.0
    rule = "middle" if on.facts is None else on.facts.extra_layers
    own = [float(np.asarray(x)) for x in times(cost, model, plan, rule)]
    return more * _round(own) / (sum(own) * float(np.asarray(slowest(cost, model, plan, rule)))) - 1.0


def _round(own: list[float]) -> float:
    """Seconds of a round of as many micro-batches as there are stages, which take so long each."""
    last = len(own) - 1
    done = play(order("rounds", stages=len(own)), [Demand(x) for x in own], events=True)
    ends = [e.end for e in done.events if e.op == last]
    return ends[-1] - ends[-1 - len(own)]
