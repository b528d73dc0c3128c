"""Where the scenarios of papers begin.

Papers publish one system against another. What both sides share (the machine, the requests, the framework that runs
both) is the scenario made here; what differs is a technique applied to it, or one of two things a claim passes through
:func:`contrast`. Keeping the two apart lets the suite take the difference away and see whether a paper notices
(:mod:`tierwise.papers.mutations`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from tierwise.engines import KERNELS
from tierwise.models.types import Model
from tierwise.scenario.types import Batch, Plan, Scenario

__all__ = ["KERNELS", "contrast", "scenario"]

T = TypeVar("T")


def scenario(
    model: Model | str,
    machine: str,
    traffic: Batch | None = None,
    plan: Plan | None = None,
    *,
    engine: str = KERNELS,
    under: Sequence[Callable[[Scenario], Scenario]] = (),
) -> Scenario:
    """The scenario both sides of a paper share: kernels alone, no serving engine around them unless the paper names
    one.

    Args:
        model, machine, traffic, plan: as of :class:`tierwise.Scenario`.
        engine: the serving engine that the paper names.
        under: conditions that hold on both sides, such as the framework a paper names
            (``techniques.eager("transformers")``) or an analysis at datasheet rates (``techniques.roofline()``).
    """
    shared = Scenario(model, machine, traffic if traffic is not None else Batch(), plan, engine=engine)
    for condition in under:
        shared = condition(shared)
    return shared


def contrast(baseline: T, changed: T) -> T:
    """The changed side of a comparison that no technique makes: another model, machine or setting.

    Returns:
        ``changed``. Going through here says that a claim is about the difference to ``baseline``.
    """
    return _differing(baseline, changed)


def _differing(baseline: T, changed: T) -> T:
    return changed
