"""What someone who plans serving asks: a model, machines it may run on, what arrives, and how fast it must be."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from tierwise import engines
from tierwise.core.errors import BadField
from tierwise.core.numerics import Format
from tierwise.machines.types import System
from tierwise.models.types import Model
from tierwise.serving.traffic.trace import Trace

Objective = Literal["cost", "throughput", "latency"]
OBJECTIVES = ("cost", "throughput", "latency")
STATISTICS = ("mean", "p50", "p90", "p95", "p99")
MODES = ("aggregated", "disaggregated", "mixed")
# Those tried where nobody says: with several machines, mixed ones are a space many times as large.
USUAL = MODES[:2]
# Devices of a kind at most: every number of them is a deployment of its own. More than that is several deployments.
DEVICES = 4096


@dataclass(frozen=True)
class Arrivals:
    """What arrives.

    Attributes:
        prompt, output: mean tokens of a request.
        rate: requests per second, nan where the plan may choose how many it takes.
        concurrency: requests that clients keep in flight, nan for none.
        trace: real arrivals that confirm the plan, None for synthetic ones.
        longest: tokens of the longest request that the model's context has room for; 0 for the mean one.
        too_long: requests of the trace beyond that context: every deployment turns them away.
        peak: rate that requests of a trace meet, over its mean rate (1 for steady arrivals).
        shared: share of prompt tokens that an unbounded prefix cache would hold already.
    """

    prompt: float
    output: float
    rate: float = float("nan")
    concurrency: float = float("nan")
    trace: Trace | None = None
    longest: float = 0.0
    too_long: int = 0
    peak: float = 1.0
    shared: float = 0.0

    @property
    def kind(self) -> Literal["open", "closed", "free"]:
        """``open``: a rate is given; ``closed``: a number in flight; ``free``: neither."""
        if np.isfinite(self.rate):
            return "open"
        return "closed" if np.isfinite(self.concurrency) else "free"


@dataclass(frozen=True)
class Targets:
    """Seconds that ``statistic`` of the requests' TTFT and TPOT must stay within; inf for no target."""

    ttft: float = float("inf")
    tpot: float = float("inf")
    statistic: str = "mean"


@dataclass(frozen=True)
class Freedom:
    """What the plan may choose beside the layout.

    Attributes:
        modes: of :data:`MODES`; ``mixed``: prefill and decode on different machines, or with different formats.
        kv: formats of the KV cache, "" for the checkpoint's own. ``weights``: formats of linear weights, None for
            the checkpoint's own. Anything but the first is a change of the model's answers.
        drafts: draft tokens a step.
        budgets: tokens in one step (``max_num_batched_tokens``), which also bounds a chunk of prefill.
        max_seqs: sequences of one engine rank at most.
        memory: share of the device that an engine takes.
        router: file of ``serving/policies/routers``; "" for the one that suits the traffic.
        prefix_cache: whether full blocks of earlier prompts may be reused.
    """

    modes: tuple[str, ...] = USUAL
    kv: tuple[str, ...] = ("",)
    weights: tuple[Format | None, ...] = (None,)
    drafts: tuple[float, ...] = (0.0,)
    budgets: tuple[float, ...] = (2048.0, 4096.0, 8192.0, 16384.0)
    max_seqs: float = 1024.0
    memory: float = 0.9
    router: str = ""
    prefix_cache: tuple[bool, ...] = (True,)


@dataclass(frozen=True)
class Question:
    """Everything a serving plan answers to.

    Attributes:
        name: the model as engines download it; ``systems``: kinds of machine with as many devices as may be used.
        budget: dollars per second at most; ``engines``: whose kernels and host times.
        confidence: that targets hold, in per cent, and at which deployments are ranked: 50 (as expected), 80 or 90.
    """

    model: Model
    name: str
    systems: tuple[System, ...]
    demand: Arrivals
    targets: Targets = field(default_factory=Targets)
    objective: Objective = "cost"
    budget: float = float("inf")
    engines: tuple[str, ...] = ("vllm",)
    freedom: Freedom = field(default_factory=Freedom)
    seed: int = 0
    confidence: int = 80


def check(question: Question) -> None:
    """Refuse what cannot be asked.

    Raises:
        BadField: a model that does not generate text, sizes or targets that are not above zero.
    """
    model, demand = question.model, question.demand
    if model.task != "generate" or not any(s.stream == "text" for s in model.stacks):
        raise BadField(model.name, "task", model.task, "a model that generates text")
    if other := [s.stream for s in model.stacks if s.stream in ("encode", "audio")]:
        raise BadField(model.name, "stacks", other[0], "a decoder alone: the steady state knows no encoder's passes")
    for engine in question.engines:
        if not any(engines.load(engine).runs_on(s.device.kind, s.device.family) for s in question.systems):
            names = ", ".join(s.device.name for s in question.systems)
            raise BadField("--engine", "value", engine, f"an engine that runs on {names[:60]}")
    for system in question.systems:
        if system.count > DEVICES:
            raise BadField("--on", "devices", system.count, f"at most {DEVICES:,} of a kind: plan a part of them")
    if question.seed < 0:
        raise BadField("--seed", "value", question.seed, "a whole number of zero or more")
    sizes = (("--prompt", demand.prompt), ("--output", demand.output))
    for name, value in sizes:
        if not (np.isfinite(value) and value >= 1):
            raise BadField(name, "tokens", value, "a number of at least 1")
    for draft in question.freedom.drafts:
        if draft >= max(demand.output, 2.0):
            raise BadField("--draft", "tokens", draft, f"fewer than the {demand.output:,.0f} tokens of an answer")
    if demand.prompt + demand.output > model.max_context:
        raise BadField("--prompt and --output", "tokens", demand.prompt + demand.output,
                       f"at most the {model.max_context:,.0f} tokens of context of {model.name}")  # fmt: skip
    for name, value in (("--rate", demand.rate), ("--concurrency", demand.concurrency)):
        if not np.isnan(value) and not (np.isfinite(value) and value > 0):
            raise BadField(name, "value", value, "a number above zero")
    for name, value in (("--ttft", question.targets.ttft), ("--tpot", question.targets.tpot),
                        ("--budget", question.budget)):  # fmt: skip
        if not value > 0:
            raise BadField(name, "value", value, "above zero")
