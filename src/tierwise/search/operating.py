"""One engine of a plan's answer at its operating point, as a scenario that anything else can take apart."""

from __future__ import annotations

from tierwise.scenario.types import Batch, Scenario
from tierwise.search.answer import Answer
from tierwise.search.deploy import deployment


def operating(answer: Answer) -> Scenario | None:
    """What one engine of the answer works on at a time: the mean request, as many of them as are in flight on it.

    Of an answer whose prefills have engines of their own, the engine that decodes. None where nothing fits at all.
    """
    if answer.best is None:
        return None
    row, points, demand = answer.best.row, answer.points, answer.question.demand
    own = deployment(answer.question, answer.families, points, row).groups[-1]
    each = max(round(float(points.flight[row] / max(points.decodes[row], 1.0))), 1)
    traffic = Batch(prompt=demand.prompt, output=demand.output, batch=float(max(each, int(own.plan.dp))))
    return Scenario(answer.question.model, own.machine, traffic, own.plan, engine=own.settings.engine)
