"""What an engine's memory holds besides weights and cache, in sequences that then have no room: as arrays, the same
account that :mod:`tierwise.serving.room` keeps of one engine."""

from __future__ import annotations

import numpy as np

from tierwise.core.num import num
from tierwise.core.numerics import fmt
from tierwise.machines.types import System
from tierwise.memory.footprint import live_activations
from tierwise.models.lower import lower, state_bytes
from tierwise.models.step import Step
from tierwise.models.types import Model
from tierwise.scenario.types import KV, Plan
from tierwise.search.engines import Engines
from tierwise.serving.room import _LOGIT
from tierwise.serving.work import Array


def taken(model: Model, system: System, kv: str, kinds: Engines, length: float, budget: float, seqs: Array) -> Array:
    """Sequences of ``length`` tokens that the runtime's reserve and a step's activations take the place of.

    Args:
        kinds: n engines; ``budget``: tokens of a step; ``seqs``: sequences that a rank may hold, shape (f,).

    Returns:
        Shape (n, f), for each rank and stage as :class:`tierwise.serving.work.Work` counts its room.
    """
    cache = KV(key=fmt(kv), value=fmt(kv))
    plan = Plan(tp=kinds.tp, pp=kinds.pp, dp=kinds.dp, ep=kinds.ep, kv=cache)
    grown, state, _ = state_bytes(Step(model, plan, 1.0, 1.0, length, "decode"))
    each = np.maximum(num(grown) + num(state) + 0.0 * kinds.tp, 1.0)
    live = num(live_activations(lower(Step(model, plan, 1.0, budget, 0.0, "prefill")))) + 0.0 * kinds.tp
    # The sampler works on all logits of a step at once.
    sampling = seqs * float(np.max(num(model.vocab))) * _LOGIT
    return np.asarray((system.device.reserve + np.maximum(live[:, None], sampling)) / each[:, None])
