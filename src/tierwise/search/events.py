"""Whether what finalists were priced with holds event by event.

The planner's arrays and the simulator take equal stages of a pipeline, and other orders than one op after the other in
their array form. A finalist's own steps are played here (:func:`tierwise.schedule.play.play`), with every layer on the
stage that it lies on.
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
from tierwise.steps.cost import BESIDE, StepCost
from tierwise.steps.price import price_step
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
    state = StepState(seqs, seqs * (prompt + output / 2.0))
    if group.role == "prefill":
        state = StepState(chunks=(Chunk(prompt, 0.0, 1.0),))
    cost = price_step(engine_of(model, group), state)
    more = 1.0
    if cost.overlaps:
        more = float(cost.executed[1].time) / float(cost.played(cost.schedule or BESIDE)[1].time)
    return more * _round(cost, int(plan.pp)) - 1.0


def _round(cost: StepCost, stages: int) -> float:
    """Time of a round of as many micro-batches as there are stages over that of a whole pass."""
    if stages < 2:
        return 1.0
    own = stage_times(cost, stages)
    done = play(order("rounds", stages=stages), [Demand(x) for x in own], events=True)
    ends = [e.end for e in done.events if e.op == stages - 1]
    return (ends[-1] - ends[-1 - stages]) / sum(own)


def stage_times(cost: StepCost, stages: int) -> list[float]:
    """Seconds of a pass on each stage: layers are dealt out evenly, those left over to the stages before the last (as
    vLLM's ``get_pp_indices`` does); what comes before them is on the first, what follows on the last."""
    segments = cost.program.segments
    each = [sum(float(np.asarray(p.cost.time)) for p in cost.on_device if p.segment is s) for s in segments]
    ends = [s.name.endswith(("input", "output", "pipeline")) for s in segments]
    where = [i for i, n in enumerate(layers(sum(not ends[i] for i in cost.program.order), stages)) for _ in range(n)]
    out, passed = [0.0] * stages, 0
    for i in cost.program.order:
        if not ends[i]:
            out[where[passed]] += each[i]
            passed += 1
        elif segments[i].name.endswith("pipeline"):
            # Each stage but the last hands its part on.
            out = [x + each[i] * float(np.asarray(segments[i].repeat)) / stages for x in out]
        else:
            out[0 if passed == 0 else -1] += each[i]
    return out


def layers(depth: int, stages: int) -> list[int]:
    """Layers of each stage."""
    out = [depth // stages] * stages
    for i in range(depth % stages):
        out[-2 - i] += 1
    return out
