"""What papers on serving have in common: a scenario served by the simulator, and what a run gave once it was full."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tierwise.core.errors import BadField
from tierwise.scenario.types import Scenario
from tierwise.serving.deployment import Deployment, Replicas, Settings
from tierwise.serving.outcome import DONE, SimulatedRun
from tierwise.serving.pricing import step_prices
from tierwise.serving.simulate import simulate
from tierwise.serving.steps import StepPrices
from tierwise.serving.traffic.trace import Trace

# Settings that tables of step prices are made with.
_PRICED = ("engine", "max_seqs", "budget", "max_len", "memory", "graphs")


@dataclass(frozen=True)
class Served:
    """A deployment with its prices, ready to be played."""

    deployment: Deployment
    prices: tuple[StepPrices, ...]

    def with_room(self, size: float = 0.0, tokens: float = 0.0) -> Served:
        """The same with room for keys and values as a paper states it: in bytes, or in tokens."""
        return replace(self, prices=tuple(replace(p, kv_room=size or tokens * p.kv_token) for p in self.prices))

    def but(self, **settings: Any) -> Served:
        """The same engines with other settings, of those that no price depends on (a scheduler, a KV manager), or with
        other drafts, whose steps are priced anew; room for keys and values stays what it is.

        Raises:
            BadField: a setting that prices depend on.
        """
        for name in sorted(set(settings) & set(_PRICED)):
            raise BadField("settings", name, settings[name], f"none of {', '.join(_PRICED)}: prices depend on these")
        other, prices = self.deployment.with_settings(**settings), self.prices
        if "speculation" in settings:
            prices = tuple(replace(step_prices(other.model, g), kv_room=p.kv_room)
                           for g, p in zip(other.groups, prices, strict=True))  # fmt: skip
        return replace(self, deployment=other, prices=prices)

    @property
    def context_room(self) -> float:
        """Tokens whose keys and values one replica of the first group holds."""
        return self.prices[0].kv_room / self.prices[0].kv_token

    def play(self, trace: Trace, log_steps: int = 0) -> SimulatedRun:
        """What happens to the trace; the first ``log_steps`` steps are kept one by one."""
        return simulate(trace, self.deployment, self.prices, log_steps=log_steps)


def served(scenario: Scenario, count: int = 1, router: str = "round_robin", **settings: Any) -> Served:
    """``count`` replicas of a scenario's model, machine and plan, with an engine's settings."""
    r = scenario.resolved()
    group = Replicas(r.machine, r.plan, count=count, settings=Settings(**settings))
    return Served(Deployment(r.model, (group,), router=router), (step_prices(r.model, group),))


def full_rate(run: SimulatedRun, skip: float = 0.2) -> float:
    """Requests per second that ended, the first and last ``skip`` of them left out: what the system gives while it
    always has work."""
    last = np.sort(run.requests.last[run.requests.state == DONE])
    a, b = int(len(last) * skip), int(len(last) * (1.0 - skip)) - 1
    return float((b - a) / (last[b] - last[a])) if b > a else float("nan")


def full_batch(run: SimulatedRun, skip: float = 0.2) -> float:
    """Mean requests that run at once over the time that :func:`full_rate` looks at."""
    last = np.sort(run.requests.last[run.requests.state == DONE])
    a, b = last[int(len(last) * skip)], last[int(len(last) * (1.0 - skip)) - 1]
    inside = (run.series.time > a) & (run.series.time <= b)
    return float(run.series.running[inside].mean())
