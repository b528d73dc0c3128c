"""Questions that tests ask: a small model on few devices, so that whole spaces can be walked."""

from __future__ import annotations

from functools import cache

from tierwise.machines import system
from tierwise.machines.types import System
from tierwise.models.load import load_model
from tierwise.search.answer import Answer
from tierwise.search.question import Arrivals, Freedom, Question, Targets
from tierwise.search.serve import plan


@cache
def machine(name: str) -> System:
    return system(name)


def ask(
    *, model: str = "llama-3.1-8b", on: tuple[str, ...] = ("4xh100-sxm",), prompt: float = 1000.0,
    output: float = 200.0, rate: float = float("nan"), concurrency: float = float("nan"), ttft: float = 0.5,
    tpot: float = 0.02, statistic: str = "mean", objective: str = "cost", budget: float = float("inf"),
    confidence: int = 50, **free: object,
) -> Question:  # fmt: skip
    freedom = Freedom(**{"budgets": (8192.0,), **free})  # type: ignore[arg-type]
    demand = Arrivals(prompt, output, rate, concurrency)
    return Question(load_model(model), model, tuple(machine(m) for m in on), demand, Targets(ttft, tpot, statistic),
                    objective, budget, ("vllm",), freedom, confidence=confidence)  # type: ignore[arg-type]  # fmt: skip


def priced(**asked: object) -> Answer:
    """The answer of the steady state alone."""
    return plan(ask(**asked), confirm=False)  # type: ignore[arg-type]
