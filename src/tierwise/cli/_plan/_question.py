"""From flags to a question."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tierwise import engines
from tierwise.core.errors import BadField, UnknownName
from tierwise.core.numerics import fmt
from tierwise.core.units import parse
from tierwise.machines.types import System
from tierwise.search.question import MODES, OBJECTIVES, STATISTICS, Demand, Freedom, Question, Targets
from tierwise.serving.traffic.trace import Trace

# Tokens of a request that nobody described, as `tierwise explain` has them.
PROMPT, OUTPUT = 2048.0, 256.0
# Devices of a kind at most, where neither a machine nor a budget says so.
MANY = 64


@dataclass(frozen=True)
class Asked:
    """What a user wrote, still as text."""

    model: str
    on: tuple[str, ...]
    any_gpu: bool
    budget: str | None
    prompt: str | None
    output: str | None
    rate: str | None
    trace: str | None
    rate_scale: float
    concurrency: str | None
    ttft: str | None
    tpot: str | None
    statistic: str
    objective: str
    engines: tuple[str, ...]
    modes: tuple[str, ...]
    weights: tuple[str, ...]
    kv: tuple[str, ...]
    drafts: tuple[int, ...]
    tokens: tuple[int, ...]
    router: str
    seed: int


def question(asked: Asked) -> Question:
    """The question that flags ask.

    Raises:
        TierwiseError: an unknown name, a value that cannot be, or flags that contradict each other.
    """
    from tierwise.models.load import load_model
    from tierwise.serving import policies

    model = load_model(asked.model)
    for flag, value, known in (
        ("--statistic", asked.statistic, STATISTICS),
        ("--objective", asked.objective, OBJECTIVES),
    ):
        _known(flag, value, known)
    for name in asked.engines:
        _known("--engine", name, engines.launchable())
    for name in asked.modes:
        _known("--mode", name, MODES)
    if asked.budget is not None and "/" not in asked.budget:
        raise BadField("--budget", "value", asked.budget, "dollars an hour such as 40/h")
    budget = _quantity(asked.budget, "money", "--budget", float("inf"))
    if asked.router:
        policies.load("routers", asked.router)
    systems = _systems(asked, budget)
    plain = Freedom()
    freedom = Freedom(
        router=asked.router,
        modes=asked.modes or plain.modes,
        kv=("", *(str(fmt(k)) for k in asked.kv)),
        weights=(None, *(fmt(w) for w in asked.weights)),
        drafts=tuple(sorted({float(_least("--draft", d, 0)) for d in asked.drafts} | {0.0})),
        budgets=tuple(sorted({float(_least("--tokens", t, 16)) for t in asked.tokens})) or plain.budgets,
    )
    targets = Targets(
        _quantity(asked.ttft, "time", "--ttft", float("inf")), _quantity(asked.tpot, "time", "--tpot", float("inf")),
        asked.statistic,
    )  # fmt: skip
    return Question(
        model, asked.model, systems, _demand(asked, model.max_context), targets, asked.objective,  # type: ignore[arg-type]
        budget, asked.engines, freedom, asked.seed,
    )  # fmt: skip


def _demand(asked: Asked, context: float) -> Demand:
    given = [n for n in ("rate", "trace", "concurrency") if getattr(asked, n) is not None]
    if len(given) > 1:
        raise BadField(
            "--" + given[1], "value", getattr(asked, given[1]), f"nothing beside --{given[0]}: one load only"
        )
    if asked.trace is not None:
        return of_trace(_trace(asked), asked.statistic, context)
    return Demand(
        _quantity(asked.prompt, "count", "--prompt", PROMPT), _quantity(asked.output, "count", "--output", OUTPUT),
        _quantity(asked.rate, "rate", "--rate", float("nan")),
        _quantity(asked.concurrency, "count", "--concurrency", float("nan")),
    )  # fmt: skip


def _trace(asked: Asked) -> Trace:
    from tierwise.serving.traffic.load import load

    assert asked.trace is not None
    if not (np.isfinite(asked.rate_scale) and asked.rate_scale > 0):
        raise BadField("--rate-scale", "factor", asked.rate_scale, "a number above zero")
    for name in ("prompt", "output"):
        if getattr(asked, name) is not None:
            raise BadField(
                "--" + name, "tokens", getattr(asked, name), "nothing beside --trace, which has its own lengths"
            )
    return load(Path(asked.trace), rate_scale=asked.rate_scale)


def of_trace(trace: Trace, statistic: str = "mean", context: float = float("inf")) -> Demand:
    """The steady demand of a trace: its mean rate and lengths, and what a prefix cache could hold of its prompts.

    Args:
        context: tokens a request may have at most; longer ones do not count.
    """
    if len(trace) < 2 or not trace.duration > 0:
        raise BadField(trace.source or "trace", "requests", len(trace), "at least two, at different times")
    tokens = trace.prompt + trace.output
    fits = tokens <= context
    if not fits.any():
        raise BadField(trace.source or "trace", "tokens", int(tokens.min()), f"requests of at most {context:,.0f}")
    return Demand(
        float(np.mean(trace.prompt[fits])), float(np.mean(trace.output[fits])),
        max(float(fits.sum()) - 1.0, 1.0) / trace.duration, trace=trace, longest=float(tokens[fits].max()),
        too_long=int((~fits).sum()), peak=peak(trace, statistic), shared=shared(trace),
    )  # fmt: skip


# Seconds over which arrivals are counted: about as long as requests stay in the system.
WINDOW = 30.0


def peak(trace: Trace, statistic: str) -> float:
    """The rate that requests arrive into, over the mean rate: its mean over requests, or the percentile asked for."""
    _, counts = np.unique(np.floor((trace.arrival - trace.arrival[0]) / WINDOW), return_counts=True)
    met = np.repeat(counts, counts) / WINDOW
    found = np.mean(met) if statistic == "mean" else np.percentile(met, float(statistic.removeprefix("p")))
    return max(float(found) * trace.duration / (len(trace) - 1), 1.0)


def shared(trace: Trace) -> float:
    """Share of prompt tokens in blocks that an earlier request had too; 0 where nothing is known of blocks."""
    if not len(trace.blocks):
        return 0.0
    _, first = np.unique(trace.blocks, return_index=True)
    again = (len(trace.blocks) - len(first)) * trace.block_size
    return float(min(again / max(float(np.sum(trace.prompt)), 1.0), 1.0))


def _systems(asked: Asked, budget: float) -> tuple[System, ...]:
    from tierwise.machines import system

    if asked.any_gpu and asked.on:
        raise BadField("--any-gpu", "value", True, "nothing beside --on: name machines, or take any")
    if asked.any_gpu:
        return rentable(budget)
    if not asked.on:
        raise BadField("--on", "machine", None, "a machine such as 32xh200-sxm, or --any-gpu")
    found = tuple(system(text) for text in asked.on)
    for one in found:
        from tierwise.scenario.resolve import check_machine

        check_machine(one)
        if np.isfinite(budget) and not np.isfinite(one.device.price.rent):
            raise BadField("--budget", "value", asked.budget, f"nothing: the catalog has no rent of {one.device.name}")
        if one.device.price.rent > budget:
            hourly = one.device.price.rent * 3600.0
            raise BadField(
                "--budget", "value", asked.budget, f"at least ${hourly:.2f}/h, the rent of one {one.device.name}"
            )
    return found


def rentable(budget: float) -> tuple[System, ...]:
    """Every GPU of the catalog with a public rent, as many as the budget pays for."""
    from tierwise.machines import device, system
    from tierwise.machines.load import device_names

    out = []
    for name in device_names():
        one = device(name)
        if one.kind != "gpu" or not np.isfinite(one.price.rent):
            continue
        count = MANY if not np.isfinite(budget) else int(min(np.floor(budget / one.price.rent * (1.0 + 1e-9)), MANY))
        if count >= 1:
            out.append(system(f"{count}x{name}"))
    if not out:
        raise BadField("--budget", "value", f"${budget * 3600.0:.2f}/h", "more than the rent of the cheapest GPU")
    return tuple(out)


def _quantity(text: str | None, kind: str, flag: str, none: float) -> float:
    return none if text is None else parse(text, kind, flag, "value")


def _known(flag: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UnknownName(f"value of {flag}:", value, known, f"Allowed: {', '.join(known)}.")


def _least(flag: str, value: int, least: int) -> int:
    if value < least:
        raise BadField(flag, "value", value, f"a whole number of at least {least}")
    return value
