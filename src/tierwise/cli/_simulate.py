"""From the flags of ``tierwise simulate`` to a trace and deployments, and from runs to what was asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tierwise.core.errors import BadField, TierwiseError, UnknownName
from tierwise.core.units import parse

if TYPE_CHECKING:
    from tierwise.machines.types import System
    from tierwise.scenario.types import Plan
    from tierwise.serving.deployment import Deployment, Replicas, Settings
    from tierwise.serving.outcome import Run
    from tierwise.serving.traffic.trace import Trace


# Tokens, and so sequences, of one step at most: as long as the longest context that step prices reach.
MOST = 2**20


@dataclass(frozen=True)
class Asked:
    """What a user wrote, still as text; names are those of the flags."""

    model: str
    on: str
    tp: int | None
    pp: int | None
    dp: int | None
    ep: int | None
    replicas: int | None
    prefill_replicas: int | None
    decode_replicas: int | None
    prefill_plan: str | None
    weights: str | None
    activations: str | None
    kv: str | None
    trace: str | None
    format: str | None
    rate_scale: float
    limit: int | None
    rate: str | None
    concurrency: int | None
    requests: int
    arrivals: str | None
    prompt: str
    output: str
    turns: str
    think: float
    shared: int
    search: str | None
    engine: str
    autoscaler: str
    startup: str
    max_seqs: int
    budget: int
    max_len: int
    block: int
    memory: float
    prefix_cache: bool
    host_cache: str | None
    disk_cache: str | None
    pooled: bool
    swap: bool
    eager: bool
    prefill_share: float
    draft: int
    accept: float
    adapters: int
    fail: list[str]
    seed: int


def traffic(asked: Asked) -> Trace:
    """The requests: of a file, or made up; each a tree of them where it is searched.

    Raises:
        TierwiseError: neither or both; a file or a rule that cannot be.
    """
    from tierwise.serving.traffic import searching

    found = _traffic(asked)
    return found if asked.search is None else searching(found, asked.search, seed=asked.seed)


def _traffic(asked: Asked) -> Trace:
    from tierwise.serving import traffic as made

    if asked.trace is not None:
        if asked.rate is not None:
            raise TierwiseError("--rate makes requests up; a trace has its own (--rate-scale plays it faster)")
        found = made.load(asked.trace, asked.format, limit=asked.limit, rate_scale=asked.rate_scale)
        if asked.arrivals is not None:
            found = made.arriving(found, asked.arrivals, seed=asked.seed)
        return found if asked.concurrency is None else replace(found, closed_loop=_positive(asked, "concurrency"))
    if asked.rate is None and asked.concurrency is None:
        raise TierwiseError("what comes in? Give --trace FILE, or --rate 4/s, or --concurrency 32")
    if asked.rate is not None and asked.concurrency is not None:
        raise TierwiseError("--rate is an open loop, --concurrency a closed one: give one of them")
    rate = None if asked.rate is None else parse(asked.rate, "rate", "--rate") * asked.rate_scale
    return made.synthetic(
        _positive(asked, "requests"), asked.arrivals or "poisson", rate=rate, concurrency=asked.concurrency,
        prompt=asked.prompt, output=asked.output, turns=asked.turns, think=asked.think, system=asked.shared,
        seed=asked.seed,
    )  # fmt: skip


def deployment(asked: Asked, scheduler: str, router: str, kv: str) -> Deployment:
    """The replicas and policies that were asked for.

    Raises:
        TierwiseError: an unknown name; more devices than the machine has; settings that cannot be.
    """
    from tierwise import engines
    from tierwise.machines import system
    from tierwise.models.load import load_model
    from tierwise.scenario.resolve import check_machine, check_plan
    from tierwise.serving.deployment import Deployment, Settings, Speculation
    from tierwise.serving.policies import load

    for kind, name in (("schedulers", scheduler), ("routers", router), ("kv", kv), ("autoscalers", asked.autoscaler)):
        if name:
            load(kind, name)
    model, machine = load_model(asked.model), system(asked.on)
    check_machine(machine)
    if model.task != "generate" or not any(x.stream == "text" for x in model.stacks):
        raise BadField(model.name, "task", model.task, "a model that generates text")
    if other := [x.stream for x in model.stacks if x.stream in ("encode", "audio")]:
        raise BadField(model.name, "stacks", other[0], "a decoder alone: steps know no encoder's passes")
    if asked.engine not in engines.names():
        known = engines.names()
        raise UnknownName("value of --engine:", asked.engine, known, f"Allowed: {', '.join(known)}.")
    for name in ("max_len", "draft", "adapters", "seed"):
        _whole(asked, name, 0)
    if not 0.0 < asked.memory <= 1.0:
        raise BadField("--memory", "share", asked.memory, "above 0, at most 1")
    if not 0.0 <= asked.prefill_share < 1.0:
        raise BadField("--prefill-share", "share", asked.prefill_share, "0 or more, below 1")
    if not 0.0 <= asked.accept <= 1.0:
        raise BadField("--accept", "probability", asked.accept, "0 to 1")
    settings = Settings(
        engine=asked.engine, scheduler=scheduler, kv=kv, max_seqs=_whole(asked, "max_seqs", 1, MOST),
        budget=_whole(asked, "budget", 1, MOST), max_len=asked.max_len, block=_positive(asked, "block"),
        memory=asked.memory, prefix_cache=asked.prefix_cache, swap=asked.swap,
        host_cache=_bytes(asked, "host_cache"), disk_cache=_bytes(asked, "disk_cache"),
        graphs=0 if asked.eager else Settings.graphs,
        speculation=Speculation(length=asked.draft, accept=asked.accept, tree=asked.draft),
        adapters=asked.adapters, prefill_share=asked.prefill_share,
    )  # fmt: skip
    plan = _plan(asked, model, machine)
    check_plan(plan, model, machine)
    first = _prefill_plan(asked, plan)
    check_plan(first, model, machine)
    groups = _groups(asked, machine, plan, first, settings)
    return Deployment(model, groups, router, asked.autoscaler, _startup(asked.startup, model, groups), asked.pooled,
                      tuple(_failure(f, sum(g.count for g in groups)) for f in asked.fail))  # fmt: skip


def _startup(text: str, model: Any, groups: tuple[Replicas, ...]) -> float:
    from tierwise.serving.startup import SOURCES, startup

    word = text.strip().lower()
    if word not in SOURCES:
        return parse(text, "time", "--startup")
    found = max(startup(model, g, word) for g in groups)
    if not math.isfinite(found):
        raise BadField("--startup", "source", word, "a source this machine has a link to, or seconds")
    return found


def _plan(asked: Asked, model: Any, machine: System) -> Plan:
    """One engine: the degrees given; without any, tensor parallel over the devices each replica has."""
    from tierwise.cli._scenario import with_formats
    from tierwise.scenario.resolve import default_plan
    from tierwise.scenario.types import Plan

    degrees = [k for k in ("tp", "pp", "dp", "ep") if getattr(asked, k) is not None]
    given: dict[str, Any] = {k: float(_positive(asked, k)) for k in degrees}
    split = (asked.prefill_replicas is not None) or (asked.decode_replicas is not None)
    engines = (asked.prefill_replicas or 1) + (asked.decode_replicas or 1) if split else asked.replicas or 1
    if given:
        plan = Plan(**given)
        if "ep" in given and "dp" not in given and "tp" not in given:
            plan = default_plan(model, replace(machine, count=max(1, machine.count // engines)), **given)
    else:
        plan = default_plan(model, replace(machine, count=max(1, machine.count // engines)))
    return with_formats(replace(plan, graphs=not asked.eager), asked.weights, asked.activations, asked.kv)


def _prefill_plan(asked: Asked, plan: Plan) -> Plan:
    """That of engines which only prefill, where their degrees are others than those of the engines that decode."""
    if asked.prefill_plan is None:
        return plan
    if asked.prefill_replicas is None:
        raise BadField("--prefill-plan", "value", asked.prefill_plan, "nothing without --prefill-replicas")
    given: dict[str, Any] = {"tp": 1.0, "pp": 1.0, "dp": 1.0, "ep": 1.0}
    for part in asked.prefill_plan.split(","):
        name, _, value = part.partition("=")
        if name.strip() not in given or not value.strip().isdecimal() or int(value) < 1:
            raise BadField("--prefill-plan", "degrees", asked.prefill_plan, "such as tp=2 or tp=2,pp=1,dp=4,ep=8")
        given[name.strip()] = float(value)
    return replace(plan, **given)


def _groups(asked: Asked, machine: System, plan: Plan, first: Plan, settings: Settings) -> tuple[Replicas, ...]:
    """``first``: the plan of engines that only prefill."""
    from tierwise.serving.deployment import Replicas

    size = int(plan.devices)
    if asked.prefill_replicas is None and asked.decode_replicas is None:
        count = max(machine.count // size, 1) if asked.replicas is None else _whole(asked, "replicas", 1)
        groups: tuple[Replicas, ...] = (Replicas(machine, plan, count, "both", settings),)
        told = f"{count} engines of {size} devices"
    else:
        if asked.replicas is not None:
            raise TierwiseError("--replicas are engines that do both; with --prefill-replicas give --decode-replicas")
        given = {n: 1 if getattr(asked, n) is None else _whole(asked, n, 1)
                 for n in ("prefill_replicas", "decode_replicas")}  # fmt: skip
        before, after = given["prefill_replicas"], given["decode_replicas"]
        groups = (Replicas(machine, first, before, "prefill", settings),
                  Replicas(machine, plan, after, "decode", settings))  # fmt: skip
        told = f"{before} engines of {int(first.devices)} devices and {after} of {size}"
        if first.devices == plan.devices:
            told = f"{before + after} engines of {size} devices"
    needed = sum(int(g.plan.devices) * g.count for g in groups)
    if needed > machine.count:
        raise TierwiseError(f"{told} need {needed}; {asked.on} has {machine.count}")
    return groups


def _failure(text: str, replicas: int) -> tuple[float, int, float]:
    parts = text.split(":")
    try:
        if len(parts) != 3:
            raise ValueError
        at, who, down = parse(parts[0], "time", "--fail"), int(parts[1]), parse(parts[2], "time", "--fail")
    except ValueError:
        raise BadField("--fail", "failure", text, "SECONDS:REPLICA:SECONDS-DOWN, as 60s:0:30s") from None
    if not 0 <= who < replicas:
        raise BadField("--fail", "replica", who, f"0 to {replicas - 1}")
    return at, who, down


def _positive(asked: Asked, name: str) -> int:
    return _whole(asked, name, 1)


def _whole(asked: Asked, name: str, least: int, most: int | None = None) -> int:
    value = int(getattr(asked, name))
    if value < least or (most is not None and value > most):
        allowed = f"a whole number of at least {least}" if most is None else f"a whole number from {least} to {most:,}"
        raise BadField("--" + name.replace("_", "-"), "value", value, allowed)
    return value


def _bytes(asked: Asked, name: str) -> float:
    text = getattr(asked, name)
    return 0.0 if text is None else parse(text, "bytes", "--" + name.replace("_", "-"))


def played(trace: Trace, plans: Sequence[Deployment], seed: int, calibration: str | None = None) -> list[Run]:
    """A run of each deployment; fewer where the user stopped. ``calibration``: what a recorded run said."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from tierwise.serving.loop.jit import folder
    from tierwise.serving.pricing import step_prices
    from tierwise.serving.simulate import simulate
    from tierwise.steps.corrections import read_corrections

    found = None if calibration is None else read_corrections(Path(calibration))
    runs: list[Run] = []
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[said]}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        for deployment_ in plans:
            first = not Path(folder()).exists()
            said = "compiling, once: about half a minute" if first else ""
            task = bar.add_task("simulating", total=max(len(trace), 1), said=said)

            def progress(done: int, total: int, at: float, task: Any = task) -> None:
                bar.update(task, completed=done, said=f"{done:,} of {total:,} requests, {at:,.0f} s")

            prices = None if found is None else [step_prices(deployment_.model, g, found) for g in deployment_.groups]
            runs.append(simulate(trace, deployment_, prices, progress=progress, seed=seed))
            bar.remove_task(task)
            if runs[-1].interrupted:
                break
    return runs


def written(
    runs: Sequence[Run], names: Sequence[str], ttft: float | None, tpot: float | None,
    html: str | None, trace_out: str | None, parquet: str | None, json: str | None,
) -> None:  # fmt: skip
    """What was asked for: files of the first run, JSON of all, tables on the terminal."""
    import json as jsonlib

    from tierwise.core.files import write

    run = runs[0]
    if html is not None:
        from tierwise.report.serving_report import page

        write(html, page(run, ttft, tpot))
    if trace_out is not None:
        from tierwise.report.serving_trace import perfetto

        write(trace_out, jsonlib.dumps(perfetto(run)))
    if parquet is not None:
        from tierwise.report.serving_requests import parquet as put

        put(run, parquet)
    if json is not None:
        from tierwise.report.serving_data import to_dict

        found: Any = to_dict(run, ttft, tpot)
        if len(runs) > 1:
            found = {name: to_dict(r, ttft, tpot) for name, r in zip(names, runs, strict=True)}
        write(json, jsonlib.dumps(found, indent=2, allow_nan=False))
    if json == "-":
        return
    from tierwise.report.console import console
    from tierwise.report.serving_report import compare_runs, show

    screen = console()
    if len(runs) > 1:
        screen.print(compare_runs(list(names), list(runs), ttft, tpot))
    else:
        show(run, screen, ttft, tpot)
    if run.interrupted:
        print(f"stopped by the user after {run.totals['end']:.1f} simulated seconds; the numbers are of what happened")
    first = f" (of {names[0]})" if len(runs) > 1 else ""
    for what, path in (("report", html), ("timeline", trace_out), ("requests", parquet), ("JSON", json)):
        if path is not None:
            print(f"{what} written to {path}{first if what != 'JSON' else ''}")
