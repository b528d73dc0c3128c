"""The engines a model can run in on a machine: every division into parallel parts that holds its weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tierwise import engines as engine_files
from tierwise.core.numerics import Format
from tierwise.machines.types import System
from tierwise.memory.account import MemoryRules, account
from tierwise.memory.rules import rules
from tierwise.models import facts
from tierwise.models.mixtures import stored_as
from tierwise.models.step import Step, formatted
from tierwise.models.types import Model
from tierwise.scenario.legality import legal
from tierwise.scenario.resolve import default_plan
from tierwise.scenario.types import Plan
from tierwise.search.constants import CONSTANTS
from tierwise.serving.step_times import Array

# Widest engine: experts of published deployments spread over at most so many devices.
WIDEST = int(CONSTANTS["engines.widest"])


@dataclass(frozen=True)
class Engines:
    """Degrees of ``n`` engines, each of shape (n,); ``dp`` is attention data parallelism inside the engine."""

    tp: Array
    pp: Array
    dp: Array
    ep: Array

    @property
    def devices(self) -> Array:
        return self.tp * self.pp * self.dp

    def take(self, index: NDArray[np.intp]) -> Engines:
        return Engines(self.tp[index], self.pp[index], self.dp[index], self.ep[index])


def engines(model: Model, system: System, memory: float = 0.9) -> tuple[Engines, Engines]:
    """(engines that hold the model's weights, engines that do not), by every division that serving engines offer.

    Tensor parallelism stays inside a node. A mixture of experts may divide attention by data (``dp``), its experts
    then over all devices of the engine. Stages of a pipeline are not mixed with that.
    """
    powers = [2**i for i in range(int(np.log2(max(min(system.count, WIDEST), 1))) + 1)]
    rows: list[tuple[int, int, int, int]] = []
    for tp in (t for t in powers if t <= system.per_node):
        rows += [(tp, pp, 1, 1) for pp in powers if pp <= CONSTANTS["engines.stages"]]
        if facts.experts(model) is not None:
            rows += [(tp, 1, 1, tp)] if tp > 1 else []
            rows += [(tp, 1, dp, tp * dp) for dp in powers[1:] if tp * dp <= WIDEST]
    tp, pp, dp, ep = np.asarray(rows, dtype=float).T
    allowed = np.flatnonzero(legal(Plan(tp=tp, pp=pp, dp=dp, ep=ep), model, system).mask)
    found = Engines(tp, pp, dp, ep).take(allowed)
    plan = Plan(tp=found.tp, pp=found.pp, dp=found.dp, ep=found.ep)
    # The least that runs: one token of one sequence beside the weights.
    one = Step(model, plan, 0.0, 1.0, 0.0, "decode")
    held = account(model, system, plan, MemoryRules(share=memory, budget=1.0), one)
    fits = np.asarray(held.cache_room + 0.0 * found.tp) > 0
    return found.take(np.flatnonzero(fits)), found.take(np.flatnonzero(~fits))


def with_room(
    model: Model, system: System, plan: Plan, engine: str, memory: float, length: float, budget: float, max_seqs: float
) -> Plan:  # fmt: skip
    """The plan of the smallest engine that holds the model and so many requests that steps are worth their weights;
    the plan as it is where none does.

    Args:
        plan: of one engine on all devices, whose formats count. ``length``: tokens of a request.
    """
    how = rules(engine_files.load(engine if engine in engine_files.names() else ""), plan, share=memory, budget=budget,
                max_seqs=max_seqs)  # fmt: skip
    for count in (2**i for i in range(int(np.log2(max(system.count, 1))) + 1)):
        if count >= system.count:
            break
        part = replace(system, count=count, per_node=min(system.per_node, count))
        own = default_plan(model, part, plan.weights)
        smaller = replace(plan, tp=own.tp, pp=own.pp, dp=own.dp, ep=own.ep)
        final = Step(model, smaller, 0.0, 1.0, length - 1.0, "decode")
        if float(np.max(account(model, part, smaller, how, final).sequences)) >= CONSTANTS["engines.least_requests"]:
            return smaller
    return plan


def stored(model: Model, weights: Format) -> Model:
    """The model with its linear weights in another format, those aside that must keep theirs."""
    if (whole := stored_as(model, weights)) is not model:
        return whole
    formats = {**model.formats, **dict.fromkeys(formatted(model), weights)}
    return replace(model, formats=formats)
