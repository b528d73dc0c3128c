"""How sure a plan is: the times it must hold at, by how well each machine's prices are known.

Ranked at face value, a machine that nobody measured wins by the optimism of its data sheet. So a deployment counts with
the times that it should stay within at the confidence asked for: its targets hold there, and it is ranked by what it
costs there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tierwise.scenario.types import Plan
from tierwise.search.engines import engines
from tierwise.search.family import Family
from tierwise.search.question import Question
from tierwise.serving.coefficients import calibration
from tierwise.serving.step_times import cache_in
from tierwise.steps.cost import StepCost
from tierwise.steps.doubt import Doubt, doubt
from tierwise.steps.price import engine_on, price_step
from tierwise.steps.state import Chunk, StepState

# Standard deviations above the mean that a normal variable stays below, by per cent; intervals of predictions hold 80 %
# of measurements, so that 90 % lie below their upper end.
DEVIATIONS = {50: 0.0, 80: 0.8416, 90: 1.2816}
# Sequences of the step whose uncertainty stands for all of a family's.
SEQUENCES = 16.0


@dataclass(frozen=True)
class Slower:
    """Factors from expected TTFT and TPOT to those that should not be exceeded: of engines that do both, and of
    those that do one."""

    aggregated: tuple[float, float] = (1.0, 1.0)
    disaggregated: tuple[float, float] = (1.0, 1.0)


def slower(question: Question, family: Family) -> Slower:
    """The factors of a family's deployments at the question's confidence."""
    scale = DEVIATIONS[question.confidence] / DEVIATIONS[90]
    own = _own(question, family)

    def at(basis: str) -> tuple[float, float]:
        found = calibration().intervals[basis]
        both = zip(("ttft", "tpot"), own, strict=True)
        ends = [np.hypot(np.log(max(found[name][1], 1.0)), more) for name, more in both]
        return float(np.exp(scale * ends[0])), float(np.exp(scale * ends[1]))

    return Slower(at(family.basis(False)), at(family.basis(True)))


def uncertain(question: Question, family: Family) -> Doubt | None:
    """What the times of a family's engines are least sure of; None where they are sure enough."""
    return doubt([(step, 1.0) for step in _steps(question, family)])


def _own(question: Question, family: Family) -> tuple[float, float]:
    """Logarithms of what a prefill and a decode step may be slower by, of a machine that no serving run was fitted on:
    the others' intervals say nothing of how well the prices of its ops are known."""
    if family.key.system.lower() in calibration().seen["system"]:
        return 0.0, 0.0
    prefill, decode = (_spread(step) for step in _steps(question, family)) if _fits(question, family) else (0.0, 0.0)
    return prefill, decode


def _fits(question: Question, family: Family) -> bool:
    return bool(len(engines(family.model, family.affordable, question.freedom.memory)[0].tp))


def _steps(question: Question, family: Family) -> tuple[StepCost, StepCost]:
    """A prefill and a decode step of the smallest engine of a family."""
    found, _ = engines(family.model, family.affordable, question.freedom.memory)
    row = int(np.argmin(found.devices))
    plan = Plan(tp=float(found.tp[row]), pp=float(found.pp[row]), dp=float(found.dp[row]), ep=float(found.ep[row]),
                kv=cache_in(family.kv))  # fmt: skip
    on = engine_on(family.model, plan, family.system, family.engine)
    demand = question.demand
    decode = price_step(on, StepState.decoding(SEQUENCES, demand.prompt + demand.output / 2.0))
    return price_step(on, StepState(chunks=(Chunk(demand.prompt),))), decode


def _spread(step: StepCost) -> float:
    """Logarithm of what the step takes longer at the upper ends of its groups' intervals, in quadrature."""
    logs = [np.log(max(float(step.moved(name, 1) / step.time), 1.0)) for name in step.groups]
    return float(np.sqrt(np.sum(np.square(logs))))
