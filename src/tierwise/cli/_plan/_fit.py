"""From what a user asked of ``tierwise plan fit`` to its answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tierwise.cli._flags import Flags
from tierwise.cli._plan._launch import published
from tierwise.cli._progress import progress
from tierwise.core.errors import BadField, TierwiseError
from tierwise.core.units import parse
from tierwise.launch.fit import Divided, divided
from tierwise.report.tiers_data import policy
from tierwise.scenario.fields import known
from tierwise.scenario.types import Scenario
from tierwise.search.fit_batch import OffloadPolicy
from tierwise.search.fit_question import FitQuestion
from tierwise.techniques.tiers import MOST_SKEW

Json = dict[str, Any]
GOALS = ("latency", "throughput")


def answered(
    asked: Flags, context: str, output: str | None, min_bits: float, goal: str | None, skew: str | None = None
) -> tuple[Json, dict[str, str], Scenario | None]:  # fmt: skip
    """(the answer as data, launch files by path, the scenario of the plan).

    Raises:
        TierwiseError: a value that cannot be, an unknown name.
    """
    from tierwise.launch.fit import files
    from tierwise.launch.fit.llama_cpp import command
    from tierwise.report.tiers_data import of_policies, to_dict
    from tierwise.search.fit import plan_fit
    from tierwise.search.fit_batch import policies
    from tierwise.search.fit_help import helps

    q = question(asked, context, output, min_bits, goal, skew)
    if q.goal == "throughput":
        with progress("looking where everything fits"):
            found = policies(q)
        data = of_policies(q, found)
        # No program on file attends on the host: files are of the best policy that one can be told.
        plain = next((p for p in found if not p.attends), None)
        return data, {} if plain is None else files(_streamed(q, plain)), found[0].scenario if found else None
    with progress("looking where everything fits") as tell:
        answer = plan_fit(q, tell)
        tell("looking what would help", 0, 1, "")
        more = helps(answer)
    best = answer.best
    if best is None:
        return to_dict(answer, more), {}, None
    data = to_dict(answer, more)
    told = divided(best.scenario, published(q.name), best.choice.weights, best.choice.kv, _predicted(q, data["answer"]))
    return {**data, "flags": command(told)}, files(told), best.scenario


def _predicted(q: FitQuestion, a: Json) -> Json:
    return {"tokens_per_s": a["tokens_per_s"], "first_token_s": a["first_token_s"], "prompt": q.prompt,
            "output": q.output, "interval": [a["tokens_per_s"] * f for f in a["interval"]], "basis": a["basis"],
            "machine": q.on, "model": q.name, "device_bytes": a["peak"]}  # fmt: skip


def _streamed(q: FitQuestion, p: OffloadPolicy) -> Divided:
    """A policy as launch files are told of it."""
    held, away = p.result.memory, p.result.memory.elsewhere
    far_caches = sum(float(x) for x in held.elsewhere_caches.values())
    weights = float(held.weight_bytes) + sum(float(x) for x in away.values()) - far_caches
    return divided(p.scenario, published(q.name), p.weights, p.kv, _predicted(q, policy(p, full=True)), p.weight_shares,
                   p.cache_shares, weights * q.machine.count)  # fmt: skip


def question(
    asked: Flags, context: str, output: str | None, min_bits: float, goal: str | None, skew: str | None = None
) -> FitQuestion:
    """What is asked, model and machine looked up."""
    from tierwise.core.numerics import fmt
    from tierwise.machines import system
    from tierwise.models.load import load_model

    length = _whole(context, "--context")
    if length < 2:
        raise BadField("--context", "value", context, "a whole number of at least 2 tokens")
    made = _whole(output, "--output") if output is not None else max(length // 8, 1)
    if not 1 <= made < length:
        raise BadField("--output", "value", output, f"a whole number from 1 to {length - 1}: the rest is the prompt")
    if not 1.0 <= min_bits <= 16.0:
        raise BadField("--min-bits", "value", min_bits, "a number from 1 to 16")
    if asked.saved:
        raise TierwiseError("plan fit: give a model's name or config.json, not a saved scenario")
    if not asked.machine:
        raise TierwiseError('on which machine? Give --on "rtx4090 + 64GB ddr5 + nvme-gen4", m3-max-64gb or a YAML file')
    on = asked.machine if isinstance(asked.machine, str) else asked.machine[0]
    # Throughput is that of as many sequences as are best, unless somebody says how many.
    most = asked.batch == "max" or (goal == "throughput" and "batch" not in asked.said)
    batch = None if most else float(asked.batch)
    aim = known("--goal", goal or ("throughput" if batch is None else "latency"), GOALS)
    if batch is None and aim == "latency":
        raise BadField("--batch", "value", "max", "a number, with --goal latency; max goes with --goal throughput")
    formats = tuple(str(x).lower() for x in asked.weights or ())
    caches = tuple(str(x).lower() for x in asked.kv or ())
    for name in (*formats, *caches):
        fmt(name)  # refuses what is no format
    model, machine = load_model(asked.model), system(on)
    q = FitQuestion(model, machine, asked.model, on, float(length), float(made), batch, min_bits, aim,
                    _engine(asked, aim, machine), formats, caches)  # fmt: skip
    return q if skew is None else replace(q, skew=_skew(skew, q))


def _skew(text: str, q: FitQuestion) -> float:
    """The exponent that a user wrote, or that of a trace: the mean of its layers."""
    import numpy as np

    from tierwise.measure.columns import COUNT, complete, numbers, read
    from tierwise.program.residency import skew_of

    if not q.routed:
        raise TierwiseError(f"--expert-skew: {q.name} has no routed experts")
    if q.goal == "throughput":
        raise TierwiseError("--expert-skew goes with --goal latency: batches of many sequences need almost all experts")
    try:
        value = float(text)
    except ValueError:
        bounds = {"layer": COUNT, "expert": (0.0, q.experts[0] - 1.0)}
        trace = numbers(complete(read(text), ("layer", "expert"), text), text, bounds)
        if not len(trace["layer"]):
            raise BadField("--expert-skew", "trace", text, "a trace with rows") from None
        layers = [trace["expert"][trace["layer"] == x].astype(np.int64) for x in np.unique(trace["layer"])]
        return min(float(np.mean([skew_of(x, q.experts[0]) for x in layers])), MOST_SKEW)
    if not 0.0 <= value <= MOST_SKEW:
        raise BadField("--expert-skew", "value", text, f"a number from 0 to {MOST_SKEW:g}, or a trace") from None
    return value


def _engine(asked: Flags, goal: str, machine: Any) -> str:
    """The engine that divides models over tiers, unless another is named."""
    from tierwise import engines
    from tierwise.cost.kits import engines as own

    if asked.engine:
        name = known("--engine", engines.plain(asked.engine), sorted(own()))
        return name if engines.plain(asked.engine) == asked.engine else str(asked.engine)
    return "llama.cpp" if goal == "latency" else engines.KERNELS


def _whole(text: str, flag: str) -> int:
    value = parse(text, "count", flag)
    if value != int(value):
        raise BadField(flag, "value", text, "a whole number of tokens")
    return int(value)
