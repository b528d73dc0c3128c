"""One pass over an input: encoders, classifiers, image towers by themselves."""

from __future__ import annotations

from tierwise.core.num import Num, maximum
from tierwise.models.lower import running
from tierwise.models.types import Model
from tierwise.scenario.types import Resolved
from tierwise.workloads._passes import Pass, encoder, towers


def runs(model: Model) -> bool:
    """Whether a model has no decoder."""
    return not any(running(model, "prefill"))


def passes(r: Resolved, batch: Num) -> list[Pass]:
    """Towers, then the encoder."""
    rank = maximum(batch / r.plan.dp, 1.0)
    return [*towers(r, rank), *encoder(r, rank)]


def final_length(r: Resolved) -> Num:
    """Nothing is kept after the pass."""
    return 0.0
