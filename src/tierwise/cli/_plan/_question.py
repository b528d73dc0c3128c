"""From flags to a question."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tierwise.cli._flags import Flags, refuse
from tierwise.core.errors import BadField, TierwiseError
from tierwise.core.numerics import Format, fmt
from tierwise.core.units import parse
from tierwise.machines.types import System
from tierwise.models.types import Model
from tierwise.scenario.fields import bad, known
from tierwise.search.confidence import DEVIATIONS
from tierwise.search.question import MODES, OBJECTIVES, STATISTICS, Arrivals, Freedom, Question, Targets
from tierwise.serving.traffic.trace import Trace

# Devices of a kind at most, where neither a machine nor a budget says so.
MANY = 64
# Tokens of one step at least: a step of fewer would not hold the tokens of a small batch.
LEAST_STEP = 16


def question(asked: Flags) -> Question:
    """The question that flags (and the saved scenario they continue) ask.

    Raises:
        TierwiseError: an unknown name, a value that cannot be, or flags that contradict each other.
    """
    from tierwise import engines as software
    from tierwise.cli._scenario import one_of_each
    from tierwise.serving import policies

    one_of_each(asked.saved, asked.source, ("draft", "tokens"))
    if not asked.confirm:
        # A percentile of a trace's own bursts is known without.
        drawn = ("seed",) if "trace" in asked.load() else ("seed", "statistic")
        refuse(asked, drawn, "nothing with --no-confirm: only what is simulated is drawn, and has percentiles")
    if "concurrency" in asked.load():
        refuse(asked, ("rate_scale",), "nothing beside --concurrency, whose requests come as others end")
    model = _model(asked)
    known("--statistic", asked.statistic, STATISTICS)
    known("--objective", asked.objective, OBJECTIVES)
    if asked.confidence not in DEVIATIONS:
        raise bad("--confidence", asked.confidence, ", ".join(map(str, DEVIATIONS)))
    engines = tuple(known("--engine", name, software.launchable()) for name in asked.several("engine"))
    modes = tuple(known("--mode", name, MODES) for name in asked.several("mode"))
    if asked.budget is not None and "/" not in asked.budget:
        raise BadField("--budget", "value", asked.budget, "dollars an hour such as 40/h")
    budget = float("inf") if asked.budget is None else parse(asked.budget, "money", "--budget", "value")
    router = asked.router or ""
    if router:
        policies.load("routers", router)
    systems = _systems(asked, budget)
    plain = Freedom()
    weights, kv = _formats(asked)
    if "mixed" in modes and len({s.name for s in systems}) < 2 and len(weights) < 2:
        raise bad("--mode", "mixed", "machines or formats that roles can differ in: a second --on or --weights")
    drafts = asked.several("draft")
    steps = asked.several("tokens")
    for tokens in steps:
        if tokens < LEAST_STEP:
            raise bad("--tokens", tokens, f"a whole number of at least {LEAST_STEP}")
    freedom = Freedom(
        router=router, modes=modes or plain.modes, kv=kv, weights=weights,
        drafts=tuple(sorted({float(d) for d in drafts} | {0.0})),
        budgets=tuple(sorted({float(t) for t in steps})) or plain.budgets,
    )  # fmt: skip
    ttft, tpot = (float("inf") if t is None else t for t in (asked.ttft, asked.tpot))
    return Question(
        model, asked.model, systems, _demand(asked, model.max_context), Targets(ttft, tpot, asked.statistic),
        asked.objective, budget, engines or Question.engines, freedom, asked.seed, asked.confidence,
    )  # fmt: skip


def _model(asked: Flags) -> Model:
    from tierwise.models.load import load_model

    if asked.source and (named := asked.saved.get("techniques") or asked.saved.get("applied")):
        raise BadField(asked.source, "techniques", named, "none: a plan chooses the layout and the formats itself "
                       "(--weights, --kv)")  # fmt: skip
    if not asked.model:
        raise BadField(asked.source, "model", "its contents", "a name or path: launch files name the model they serve")
    return load_model(asked.model)


def _formats(asked: Flags) -> tuple[tuple[Format | None, ...], tuple[str, ...]]:
    """(formats of weights, names of formats of the KV cache) to try.

    Those that flags name are tried beside the checkpoint's own; those of a saved scenario are taken as settled.
    """
    plan = asked.saved.get("plan") or {}
    cache = plan.get("kv")
    weights: tuple[Format | None, ...] = (None, *(fmt(w) for w in asked.said.get("weights", ())))
    kv = ("", *(str(fmt(k)) for k in asked.said.get("kv", ())))
    if "weights" not in asked.said and plan.get("weights") is not None:
        weights = (fmt(plan["weights"]),)
    if "kv" not in asked.said and cache:
        name = cache if isinstance(cache, str) else cache.get("key")
        other = {} if isinstance(cache, str) else {k: v for k, v in cache.items() if k not in ("key", "value")}
        if other or not isinstance(name, str):
            raise BadField(asked.source, "plan.kv", cache, "a format for keys and values; a plan tries no other policy")
        kv = (str(fmt(name)),)
    return weights, kv


def _demand(asked: Flags, context: float) -> Arrivals:
    load: Mapping[str, Any] = asked.load()
    if len(load) > 1:
        first, other = list(load)[:2]
        raise bad("--" + other, load[other], f"nothing beside --{first}: one load only")
    if "trace" in load:
        return of_trace(_trace(asked, load["trace"]), asked.statistic, context)
    sizes: dict[str, float] = {}
    for name in ("prompt", "output"):
        value = getattr(asked, name)
        if not isinstance(value, (int, float)):
            raise bad("--" + name, value, "the mean number of tokens, or a --trace that has its own")
        sizes[name] = float(value)
    rate, flying = (float(load.get(name, "nan")) for name in ("rate", "concurrency"))
    return Arrivals(sizes["prompt"], sizes["output"], rate * asked.rate_scale, flying)


def _trace(asked: Flags, file: str) -> Trace:
    from tierwise.serving.traffic.load import load

    if not (np.isfinite(asked.rate_scale) and asked.rate_scale > 0):
        raise BadField("--rate-scale", "factor", asked.rate_scale, "a number above zero")
    for name in ("prompt", "output"):
        if name in asked.said:
            raise bad("--" + name, asked.said[name], "nothing beside --trace, which has its own lengths")
    return load(Path(file), rate_scale=asked.rate_scale)


def of_trace(trace: Trace, statistic: str = "mean", context: float = float("inf")) -> Arrivals:
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
    return Arrivals(
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


def _systems(asked: Flags, budget: float) -> tuple[System, ...]:
    from tierwise.machines import system

    machines = asked.said.get("machine", [])
    if asked.any_gpu and machines:
        raise BadField("--any-gpu", "value", True, "nothing beside --on: name machines, or take any")
    if asked.any_gpu:
        if not asked.load() and not np.isfinite(budget) and "objective" not in asked.said:
            raise TierwiseError(f"how much traffic is it for? --any-gpu without a load would fill {MANY} of each GPU: "
                                "give --rate 4/s or --concurrency 32, --budget 40/h, or --objective "
                                "throughput")  # fmt: skip
        return rentable(budget)
    names = asked.several("machine")
    if not names:
        raise TierwiseError("on which machine? Give --on 32xh200-sxm, or a YAML file, or --any-gpu")
    if not all(isinstance(name, str) for name in names):
        raise BadField(asked.source, "machine", "its contents", "a name or path: launch files are for a named machine")
    found = tuple(system(text) for text in names)
    for one in found:
        from tierwise.scenario.resolve import check_machine

        check_machine(one)
        if np.isfinite(budget) and not np.isfinite(one.device.price.rent):
            raise BadField("--budget", "value", asked.budget, f"nothing: the catalog has no rent of {one.device.name}")
        if (least := float(one.rent(1.0))) > budget:
            what = one.device.name if one.rented == 1 else f"instance of {one.rented} {one.device.name}"
            allowed = f"at least ${least * 3600.0:.2f}/h, the rent of one {what}"
            raise BadField("--budget", "value", asked.budget, allowed)
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
